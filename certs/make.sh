#!/bin/sh
# Development certificates beside this script: a CA, a server certificate for localhost, and one for a second name
# (SNI). Existing ones are kept while they last another week; `--force` makes new ones. Never for production.
set -eu
cd "$(dirname "$0")"
umask 077

WEEK=604800
DAYS=365

fresh() {
    [ -f "$1.key" ] && [ -f "$1.pem" ] && openssl x509 -in "$1.pem" -noout -checkend "$WEEK" >/dev/null 2>&1
}

key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key" 2>/dev/null
}

# leaf NAME COMMON_NAME SUBJECT_ALTERNATIVE_NAMES: NAME.key, and NAME.pem with the chain, leaf first
leaf() {
    key "$1"
    extensions=$(mktemp)
    printf '%s\n' "subjectAltName=$3" 'basicConstraints=critical,CA:FALSE' 'keyUsage=critical,digitalSignature' \
        'extendedKeyUsage=serverAuth' 'subjectKeyIdentifier=hash' 'authorityKeyIdentifier=keyid' >"$extensions"
    openssl req -new -key "$1.key" -subj "/CN=$2" |
        openssl x509 -req -days "$DAYS" -CA ca.pem -CAkey ca.key -extfile "$extensions" -out "$1.pem" \
            -set_serial "0x$(openssl rand -hex 16)" 2>/dev/null
    rm -f "$extensions"
    cat ca.pem >>"$1.pem"
    chmod 644 "$1.pem"
}

if [ "${1:-}" != --force ] && fresh ca && fresh server && fresh second; then
    echo "certificates: all there"
    exit 0
fi

key ca
openssl req -x509 -new -key ca.key -days "$DAYS" -subj '/CN=Tidegate development CA' -out ca.pem \
    -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign,cRLSign'
chmod 644 ca.pem
leaf server localhost 'DNS:localhost,IP:127.0.0.1,IP:::1'
leaf second media.tidegate.test 'DNS:media.tidegate.test,DNS:*.media.tidegate.test'
echo "certificates: made in certs/; trust certs/ca.pem to use them"
