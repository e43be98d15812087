// Sign-in: a token of the settings, one that the user gives, or a provider by the authorization code flow with PKCE (RFC 7636).

/** @typedef {{ issuer: string, clientId: string, scope: string }} Provider */

const PENDING = "tidegate.player.signin";
const HERE = () => `${location.origin}/player/`;

/** @param {Uint8Array<ArrayBuffer> | ArrayBuffer} bytes */
const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/**
 * @param {Provider} provider
 * @returns {Promise<{ authorization_endpoint: string, token_endpoint: string }>}
 */
async function discover({ issuer }) {
  const answer = await fetch(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (!answer.ok) throw new Error("discovery");
  const found = await answer.json();
  if (found.issuer?.replace(/\/$/, "") !== issuer.replace(/\/$/, "")) throw new Error("issuer");
  return found;
}

/**
 * Goes to the provider; the page ends.
 * @param {Provider} provider
 */
export async function goToProvider(provider) {
  const { authorization_endpoint: endpoint } = await discover(provider);
  const [verifier, state] = [random(), random()];
  const challenge = base64url(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier)));
  sessionStorage.setItem(PENDING, JSON.stringify({ verifier, state }));
  const to = new URL(endpoint);
  const query = {
    response_type: "code", client_id: provider.clientId, redirect_uri: HERE(), scope: provider.scope, state,
    code_challenge: challenge, code_challenge_method: "S256",
  };
  for (const [name, value] of Object.entries(query)) to.searchParams.set(name, value);
  location.assign(to.href);
}

/**
 * Ends a sign-in that the provider has come back from; returns the token, null where none was under way.
 * @param {Provider | null} provider
 */
export async function comeBack(provider) {
  const query = new URLSearchParams(location.search);
  const [code, state, refused] = [query.get("code"), query.get("state"), query.get("error")];
  if (!provider || !state || !(code || refused)) return null;
  const pending = JSON.parse(sessionStorage.getItem(PENDING) ?? "null");
  sessionStorage.removeItem(PENDING);
  // The code is good once, and stands in no history.
  history.replaceState(null, "", location.pathname + location.hash);
  if (refused || !code || pending?.state !== state) throw new Error("refused");
  const { token_endpoint: endpoint } = await discover(provider);
  const answer = await fetch(endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code", code, redirect_uri: HERE(), client_id: provider.clientId, code_verifier: pending.verifier,
    }),
  });
  if (!answer.ok) throw new Error("token");
  const { access_token: token } = await answer.json();
  if (typeof token !== "string") throw new Error("token");
  return token;
}
