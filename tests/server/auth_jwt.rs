//! Identity: no token counts but one that this server signed, for itself, in time.
use crate::auth_world::{Answer, Client, World, address, claims};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

fn sign(header: &Header, claims: &Value, key: &EncodingKey) -> String {
    jsonwebtoken::encode(header, claims, key).unwrap()
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A P-256 key that is not the server's.
fn stranger() -> EncodingKey {
    let pem = backupengine_server::auth::Keys::generate().unwrap();
    EncodingKey::from_ec_pem(pem.expose().as_bytes()).unwrap()
}

async fn answer(client: &Client, token: &str) -> Answer {
    client.get("/user", token).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_kind_or_key_is_refused() {
    let world = World::start().await;
    let client = world.client();
    let good = client.signup(&address()).await.access_token.0;
    let claims = claims(&good);
    let jwks = client.get("/.well-known/jwks.json", "").await.ok();
    let kid = jwks["keys"][0]["kid"].as_str().unwrap().to_owned();
    let header = |algorithm, kid: Option<&str>| {
        let mut header = Header::new(algorithm);
        header.kid = kid.map(str::to_owned);
        header
    };
    let x = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
    let y = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["y"].as_str().unwrap()).unwrap();
    let point = [&[4][..], &x, &y].concat();
    let parts: Vec<&str> = good.split('.').collect();
    let none = |algorithm: &str| part(&json!({"alg": algorithm, "typ": "JWT", "kid": kid}));
    let owned = part(&{
        let mut claims = claims.clone();
        claims["aal"] = json!("aal2");
        claims
    });
    let ours = Some(kid.as_str());
    let forged = [
        ("none", format!("{}.{}.", none("none"), parts[1])),
        ("None", format!("{}.{}.", none("None"), parts[1])),
        ("none with our signature", format!("{}.{}.{}", none("none"), parts[1], parts[2])),
        (
            "the public point as a shared secret",
            sign(&header(Algorithm::HS256, ours), &claims, &EncodingKey::from_secret(&point)),
        ),
        (
            "the JWKS as a shared secret",
            sign(
                &header(Algorithm::HS256, ours),
                &claims,
                &EncodingKey::from_secret(jwks.to_string().as_bytes()),
            ),
        ),
        (
            "an empty shared secret",
            sign(&header(Algorithm::HS256, ours), &claims, &EncodingKey::from_secret(b"")),
        ),
        ("another key by our name", sign(&header(Algorithm::ES256, ours), &claims, &stranger())),
        ("another key by its own name", sign(&header(Algorithm::ES256, Some("mine")), &claims, &stranger())),
        ("no key named", sign(&header(Algorithm::ES256, None), &claims, &stranger())),
        ("RS256 in the header", format!("{}.{}.{}", none("RS256"), parts[1], parts[2])),
        ("changed claims", format!("{}.{owned}.{}", parts[0], parts[2])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("an empty signature", format!("{}.{}", parts[0], parts[1])),
        ("zeros as signature", format!("{}.{}.{}", parts[0], parts[1], URL_SAFE_NO_PAD.encode([0; 64]))),
        ("a fourth part", format!("{good}.{}", parts[2])),
        ("nothing", "x".to_owned()),
        ("dots", "..".to_owned()),
    ];
    for (what, token) in forged {
        assert_eq!(answer(&client, &token).await.refused(403), "bad_jwt", "{what}");
    }
    // A key that the token itself brings along, or points to.
    for extra in [
        json!({"jku": "http://127.0.0.1:1/k"}),
        json!({"jwk": jwks["keys"][0]}),
        json!({"x5u": "http://127.0.0.1:1/k"}),
    ] {
        let mut header = json!({"alg": "ES256", "typ": "JWT", "kid": "mine"});
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let body = format!("{}.{}", part(&header), parts[1]);
        let signature = jsonwebtoken::crypto::sign(body.as_bytes(), &stranger(), Algorithm::ES256).unwrap();
        assert_eq!(answer(&client, &format!("{body}.{signature}")).await.refused(403), "bad_jwt", "{extra}");
    }
    answer(&client, &good).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_deployment_is_refused() {
    let (one, two) = (World::start().await, World::start().await);
    let (here, there) = (one.client(), two.client());
    let token = here.signup(&address()).await.access_token.0;
    assert_eq!(answer(&there, &token).await.refused(403), "bad_jwt");
    answer(&here, &token).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_our_key_counts_only_with_every_claim_in_place() {
    let world = World::start().await;
    let client = world.client();
    let (mine, other) = (client.signup(&address()).await, client.signup(&address()).await);
    let good = claims(&mine.access_token.0);
    let key = EncodingKey::from_ec_pem(world.secret("jwt_key").as_bytes()).unwrap();
    let header = jsonwebtoken::decode_header(&mine.access_token.0).unwrap();
    let now = good["iat"].as_i64().unwrap();
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        sign(&header, &claims, &key)
    };
    answer(&client, &with("exp", json!(now - 5))).await.ok();
    let expired = answer(&client, &with("exp", json!(now - 60))).await;
    assert_eq!(expired.refused(403), "bad_jwt");
    assert!(expired.body["message"].as_str().unwrap().contains("expired"));
    for (name, value) in [
        ("iss", json!("https://evil.example/auth/v1")),
        ("iss", json!(world.base())),
        ("iss", Value::Null),
        ("aud", json!("anon")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("exp", Value::Null),
        ("exp", json!("never")),
        ("nbf", json!(now + 600)),
        ("sub", Value::Null),
    ] {
        let refused = answer(&client, &with(name, value.clone())).await;
        assert_eq!(refused.refused(403), "bad_jwt", "{name} {value}");
    }
    for (name, value) in [
        ("sub", json!(other.user.id)),
        ("sub", json!("' or true --")),
        ("session_id", claims(&other.access_token.0)["session_id"].clone()),
        ("session_id", json!("00000000-0000-0000-0000-000000000000")),
        ("session_id", Value::Null),
    ] {
        let refused = answer(&client, &with(name, value.clone())).await;
        assert_eq!(refused.refused(403), "session_not_found", "{name} {value}");
    }
    // The token says aal2, the login behind it does not.
    let risen = with("aal", json!("aal2"));
    let device = client.enroll(&mine.access_token.0).await;
    client.confirm(&mine.access_token.0, &device, 0).await.session();
    let weak = client.login(mine.user.email.as_deref().unwrap(), crate::auth_world::PASSWORD).await.session();
    let mut lie = claims(&weak.access_token.0);
    lie["aal"] = json!("aal2");
    let lie = sign(&header, &lie, &key);
    let remove = format!("/factors/{}", device.factor);
    assert_eq!(client.delete_as(&lie, &remove).await.refused(422), "insufficient_aal");
    // And a token from before the login was confirmed does not rise with it.
    assert_eq!(client.delete_as(&mine.access_token.0, &remove).await.refused(422), "insufficient_aal");
    client.delete_as(&risen, &remove).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_counts_only_while_its_login_is_there() {
    let world = World::start().await;
    let client = world.client();
    let (mine, other) = (client.signup(&address()).await, client.signup(&address()).await);
    let admin = world.admin().await;
    // The session of one, the user of another: no such login.
    let session = claims(&mine.access_token.0)["session_id"].as_str().unwrap().to_owned();
    let sql = "update auth.sessions set user_id = $1::text::uuid where id = $2::text::uuid";
    admin.execute(sql, &[&other.user.id, &session]).await.unwrap();
    assert_eq!(answer(&client, &mine.access_token.0).await.refused(403), "session_not_found");
    answer(&client, &other.access_token.0).await.ok();
    admin
        .execute("delete from auth.sessions where user_id = $1::text::uuid", &[&other.user.id])
        .await
        .unwrap();
    assert_eq!(answer(&client, &other.access_token.0).await.refused(403), "session_not_found");
}
