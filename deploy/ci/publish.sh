#!/bin/sh
# Publishes a tarball from a CI job: publish.sh TARBALL
#
# Needs curl, jq and tar, and the variable SYNAPSE_REGISTRY_URL, such as https://registry.example.
# Credentials, the first that is set:
#   SYNAPSE_REGISTRY_TOKEN          an API token
#   SYNAPSE_ID_TOKEN                an ID token; GitLab sets it by `id_tokens`
#   ACTIONS_ID_TOKEN_REQUEST_URL    GitHub Actions sets it for jobs with `id-token: write`
# SYNAPSE_AUDIENCE is the audience of ID tokens, by default SYNAPSE_REGISTRY_URL.
set -eu

fail() {
    echo "publish.sh: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: publish.sh TARBALL"
[ -f "$1" ] || fail "there is no file $1"
tarball=$1
registry=${SYNAPSE_REGISTRY_URL:-}
registry=${registry%/}
[ -n "$registry" ] || fail "set SYNAPSE_REGISTRY_URL to the address of the registry"
api=$registry/api/v1

# The manifest is at the root of the tarball, or in its only top folder.
manifest=$(tar -tzf "$tarball" | grep -E '^(\./)?([^/]+/)?synapse\.json$' | head -n 1)
[ -n "$manifest" ] || fail "$tarball has no synapse.json"
name=$(tar -xzOf "$tarball" -- "$manifest" | jq -er .name) || fail "synapse.json has no name"
version=$(tar -xzOf "$tarball" -- "$manifest" | jq -er .version) || fail "synapse.json has no version"

# call WHAT CURL-ARGUMENTS: prints the answer's body, or fails with its text.
call() {
    what=$1
    shift
    # Secrets go through files that only this user can read, since other users can see arguments.
    status=$(curl --silent --show-error --retry 3 --output "$work/answer" --write-out '%{http_code}' "$@") ||
        fail "$what: no answer"
    case $status in
        2??) cat "$work/answer" ;;
        *) fail "$what: status $status: $(jq -r '.detail // .' "$work/answer" 2>/dev/null || cat "$work/answer")" ;;
    esac
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 077

token=${SYNAPSE_REGISTRY_TOKEN:-}
if [ -z "$token" ]; then
    id_token=${SYNAPSE_ID_TOKEN:-}
    if [ -z "$id_token" ] && [ -n "${ACTIONS_ID_TOKEN_REQUEST_URL:-}" ]; then
        audience=$(printf %s "${SYNAPSE_AUDIENCE:-$registry}" | jq -sRr @uri)
        printf 'Authorization: Bearer %s\n' "$ACTIONS_ID_TOKEN_REQUEST_TOKEN" >"$work/headers"
        call "requesting the ID token" --header @"$work/headers" \
            "$ACTIONS_ID_TOKEN_REQUEST_URL&audience=$audience" >"$work/id"
        id_token=$(jq -er .value "$work/id") || fail "GitHub gave no ID token"
    fi
    [ -n "$id_token" ] || fail "there are no credentials; see the top of this script"
    printf %s "$id_token" >"$work/id_token"
    jq -n --rawfile token "$work/id_token" --arg package "$name" '{token: $token, package: $package}' >"$work/body"
    call "exchanging the ID token" --header 'Content-Type: application/json' --data @"$work/body" \
        "$api/auth/oidc/token" >"$work/exchanged"
    token=$(jq -er .token "$work/exchanged") || fail "the registry gave no token"
fi

printf 'Authorization: Bearer %s\n' "$token" >"$work/headers"
call "publishing $name $version" --header @"$work/headers" --header 'Content-Type: application/gzip' \
    --header "Idempotency-Key: $(sha256sum "$tarball" | cut -c1-64)" --upload-file "$tarball" \
    "$api/packages/$name/$version" >"$work/published"
echo "published $name $version: $registry$(jq -r .package.url "$work/published")"
