"""Verifies tokens with libraries that know nothing of Cordon, from the key set as it is published.

usage: reference.py < questions > answers      both are JSON arrays of the same length
"""

import json
import sys
import urllib.error
import urllib.parse
import urllib.request

import jwt as pyjwt
from authlib.oidc.discovery import OpenIDProviderMetadata
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet
from jwcrypto.jwk import JWKSet
from jwcrypto.jwt import JWT
from spiffe import JwtBundle, JwtSvid, TrustDomain

ALGORITHMS = ["ES256", "RS256"]


def with_pyjwt(q):
    kid = pyjwt.get_unverified_header(q["token"])["kid"]
    key = pyjwt.PyJWKSet.from_json(q["jwks"])[kid]
    return pyjwt.decode(
        q["token"], key, algorithms=[key.algorithm_name], audience=q["audience"], issuer=q["issuer"],
        options={"require": ["iss", "sub", "aud", "iat", "nbf", "exp", "jti"], "strict_aud": True},
    )


def with_joserfc(q):
    keys = KeySet.import_key_set(json.loads(q["jwks"]))
    token = joserfc_jwt.decode(q["token"], keys, algorithms=ALGORITHMS)
    joserfc_jwt.JWTClaimsRegistry(
        iss={"essential": True, "value": q["issuer"]}, aud={"essential": True, "value": q["audience"]},
        exp={"essential": True}, nbf={"essential": True},
    ).validate(token.claims)
    return token.claims


def with_jwcrypto(q):
    token = JWT(
        key=JWKSet.from_json(q["jwks"]), jwt=q["token"], algs=ALGORITHMS,
        check_claims={"iss": q["issuer"], "aud": q["audience"], "exp": None, "nbf": None},
    )
    return json.loads(token.claims)


def with_spiffe(q):
    """As a JWT-SVID: the header's type, and a subject of the trust domain that the keys are of."""
    bundle = JwtBundle.parse(TrustDomain("cordon.example"), q["jwks"].encode())
    return {"sub": str(JwtSvid.parse_and_validate(q["token"], bundle, {q["audience"]}).spiffe_id)}


LIBRARIES = {"PyJWT": with_pyjwt, "joserfc": with_joserfc, "jwcrypto": with_jwcrypto, "spiffe": with_spiffe}


def actors(act):
    """Who acts now, for whom it acts in turn, and so on (RFC 8693, section 4.1)."""
    return [act["sub"], *actors(act.get("act"))] if act else []


def verify(q):
    try:
        claims = LIBRARIES[q["library"]](q)
        return {"subject": claims["sub"], "scope": claims.get("scope"), "actors": actors(claims.get("act"))}
    except Exception as problem:  # Each library has errors of its own; which one it was is told, not judged.
        return {"problem": type(problem).__name__}


def thumbprints(q):
    return {"thumbprints": [key.thumbprint() for key in JWKSet.from_json(q["jwks"])["keys"]]}


def configuration(q):
    """What OpenID Connect Discovery 1.0, section 3, requires of an issuer that nobody logs in at."""
    metadata = OpenIDProviderMetadata(json.loads(q["configuration"]))
    for member in ["issuer", "jwks_uri", "response_types_supported", "subject_types_supported",
                   "id_token_signing_alg_values_supported"]:
        if member not in metadata:
            return {"problem": f"{member} is missing"}
        try:
            getattr(metadata, f"validate_{member}")()
        except ValueError as problem:
            return {"problem": str(problem)}
    for member in ["claims_supported", "introspection_endpoint", "introspection_endpoint_auth_methods_supported"]:
        getattr(metadata, f"validate_{member}")()
    return {"subject": metadata["issuer"]}


def fetched(q, url, form=None):
    """What a front end would pass on: the issuer's URL stands for the address that the server listens on."""
    assert url.startswith(q["issuer"] + "/"), url
    request = urllib.request.Request(q["base"] + url[len(q["issuer"]):])
    if form is not None:
        request.data = urllib.parse.urlencode(form).encode()
        request.add_header("Authorization", "Bearer " + q["secret"])
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.headers["Content-Type"] == "application/json", response.headers
        return response.read().decode()


def relying_party(q):
    """Finds its way from the issuer's URL to the keys, verifies, and asks whether the attempt still runs."""
    metadata = json.loads(fetched(q, q["issuer"] + "/.well-known/openid-configuration"))
    assert metadata["issuer"] == q["issuer"], metadata
    answer = verify({**q, "library": "PyJWT", "jwks": fetched(q, metadata["jwks_uri"])})
    try:
        answer["introspection"] = json.loads(fetched(q, metadata["introspection_endpoint"], {"token": q["token"]}))
    except urllib.error.HTTPError as problem:
        answer["status"] = problem.code
    return answer


KINDS = {
    "verify": verify, "thumbprints": thumbprints, "configuration": configuration, "relying party": relying_party,
}

print(json.dumps([KINDS[question["kind"]](question) for question in json.load(sys.stdin)]))
