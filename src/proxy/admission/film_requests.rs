//! Admission of requests for films: the token first, then the film that it is for, then its session, then the limits. Beside
//! the route table: a path with a grant leads to nothing else.

use std::sync::Arc;

use http::Method;
use http::request::Parts;
use serde_json::{Map, Value};

use super::{AdmittedRequest, check_length, check_object_request, rate_limit};
use crate::proxy::context::RequestContext;
use crate::proxy::failure::ProxyFailure;
use crate::proxy::films::{FilmCredential, FilmRequest};
use primitives::ids::UserId;
use server_kit::admission;
use server_kit::auth::{AuthenticationError, Claims};
use vod::grant::{Grant, GrantRefusal, GrantVerifier};

/// Admits a request for something of a film; `asked` is true for a browser's question whether it may ask.
pub async fn admit(
    request: &Parts,
    ctx: &mut RequestContext,
    credential: &FilmCredential,
    asked: bool,
) -> Result<AdmittedRequest, ProxyFailure> {
    let runtime = Arc::clone(&ctx.runtime);
    let (Some(routes), Some(grants)) = (&runtime.films, &runtime.process.film_verifier) else {
        return Err(ProxyFailure::NoRoute);
    };
    // At once, so that pages of other sites can read every refusal.
    ctx.route = Some(Arc::clone(&routes.films));
    if let (true, Some(policy)) = (asked, &routes.films.policies.cors) {
        return Ok(AdmittedRequest::Preflight(Arc::clone(policy)));
    }
    let grant = authenticate(ctx, credential, grants)?;
    let Some(film) = routes.read(request.uri.path()) else { return Err(ProxyFailure::NoRoute) };
    if check_object_request(request)? == Method::OPTIONS {
        return Ok(AdmittedRequest::Options);
    }
    let route = if film.is_key { &routes.keys } else { &routes.films };
    ctx.route = Some(Arc::clone(route));
    let viewer = admit_viewer(grants, &grant, &film).await?;
    ctx.claims = viewer.map(|user| {
        let map = Map::from_iter([("sub".to_owned(), Value::from(user.as_str()))]);
        Arc::new(Claims { subject: user, map })
    });
    (ctx.captures, ctx.film_grant) = (film.captures, Some(grant));
    rate_limit::admit_by_rate_limit(ctx, route).await?;
    check_length(request, route)?;
    Ok(AdmittedRequest::Route(Arc::clone(route)))
}

/// Verifies the token; an invalid one is counted against its network.
fn authenticate(
    ctx: &RequestContext,
    credential: &FilmCredential,
    grants: &GrantVerifier,
) -> Result<Grant, ProxyFailure> {
    let token = credential.token.as_ref().ok_or(ProxyFailure::Unauthorized(AuthenticationError::Missing))?;
    grants.authenticate(token).map_err(|refusal| match refusal {
        GrantRefusal::Unauthenticated(error) => {
            let invalid_tokens = ctx.runtime.process.limiters.invalid_tokens();
            admission::refuse(error, Some(invalid_tokens), ctx.client_address).into()
        }
        GrantRefusal::OtherFilm | GrantRefusal::Ended(_) | GrantRefusal::Unavailable(_) => refusal.into(),
    })
}

async fn admit_viewer(
    grants: &GrantVerifier,
    grant: &Grant,
    film: &FilmRequest,
) -> Result<Option<UserId>, ProxyFailure> {
    Ok(match film.is_key {
        true => Some(grants.admit_to_key(grant, &film.prefix).await?),
        false => grants.admit(grant, &film.prefix).await?,
    })
}
