//! Identity: what a provider swears counts only if it is the provider, for us, now, and for this login.
use crate::auth_flow::{code, error, get, param, path, start, to_callback, to_client};
use backupengine_tests::provider::{CLIENT_ID, Signer, person};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::{Value, json};

/// What is not a proof of the provider's.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_proof_is_refused() {
    let (world, idp) = start().await;
    let client = world.client();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let lies: Vec<(&str, Value)> = vec![
        ("another issuer", json!({"iss": "https://accounts.example"})),
        ("another client", json!({"aud": "another-client"})),
        ("no audience", json!({"aud": null})),
        ("several clients and no party", json!({"aud": [CLIENT_ID, "another-client"]})),
        ("another party", json!({"azp": "another-client"})),
        ("another nonce", json!({"nonce": "another"})),
        ("no nonce", json!({"nonce": null})),
        ("long past", json!({"exp": now() - 3600})),
        ("no end", json!({"exp": null})),
        ("nobody", json!({"sub": null})),
        ("an empty name", json!({"sub": ""})),
        ("a zero in the name", json!({"sub": "a\u{0}b"})),
    ];
    for (what, lie) in lies {
        idp.change(|habits| habits.claims = lie);
        assert_eq!(error(&to_client(&client).await), "bad_oauth_callback", "{what}");
    }
    idp.change(|habits| habits.claims = json!({}));
    let honest = idp.change(|habits| habits.signer.clone());
    let public = idp.change(|habits| habits.keys[1].to_string());
    let signers = [
        ("another key by the same name", Signer::es256("key-1")),
        ("an unknown key", Signer::es256("key-2")),
        ("a key without a name among several", Signer { kid: None, ..honest.clone() }),
        ("RSA by the name of an EC key", Signer::rs256("key-1")),
        (
            "the public key as a secret",
            Signer {
                algorithm: Algorithm::HS256,
                key: EncodingKey::from_secret(public.as_bytes()),
                kid: Some("key-1".into()),
            },
        ),
    ];
    for (what, signer) in signers {
        idp.change(|habits| habits.signer = signer);
        assert_eq!(error(&to_client(&client).await), "bad_oauth_callback", "{what}");
    }
    idp.change(|habits| habits.signer = honest);
    let none = |payload: Value| {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(json!({"alg": "none", "kid": "key-1"})), part(payload))
    };
    for token in ["", "x", "a.b.c", &none(person("subject-1", "ada@example.org"))] {
        idp.change(|habits| habits.token = Some(token.to_owned()));
        assert_eq!(error(&to_client(&client).await), "bad_oauth_callback", "{token}");
    }
    let none: i64 =
        world.admin().await.query_one("select count(*) from auth.users", &[]).await.unwrap().get(0);
    assert_eq!(none, 0);
    idp.change(|habits| habits.token = None);
    code(&to_client(&client).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_may_change_its_keys_and_is_not_asked_for_each_forgery() {
    let (world, idp) = start().await;
    let client = world.client();
    code(&to_client(&client).await);
    code(&to_client(&client).await);
    assert_eq!(idp.change(|habits| habits.fetched), 1, "kept");
    idp.rotate(Signer::es256("key-2"));
    assert_eq!(
        error(&to_client(&client).await),
        "bad_oauth_callback",
        "asked again no sooner than after 10 s"
    );
    assert_eq!(idp.change(|habits| habits.fetched), 1);
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    code(&to_client(&client).await);
    assert_eq!(idp.change(|habits| habits.fetched), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_misbehaves_is_not_followed() {
    for document in [
        json!({"issuer": "https://accounts.example"}),
        json!({"token_endpoint": "http://192.0.2.1/token"}),
        json!({"authorization_endpoint": "javascript:alert(1)"}),
        json!({"jwks_uri": "file:///etc/passwd"}),
        json!({"jwks_uri": null}),
    ] {
        let (world, idp) = start().await;
        idp.change(|habits| habits.document = document.clone());
        let answer = get(&world.client(), &path(&[])).await;
        assert_eq!(answer.refused(503), "unexpected_failure", "{document}");
        assert!(!answer.body.to_string().contains("192.0.2.1"));
    }
    let (world, idp) = start().await;
    let client = world.client();
    for status in [400, 401, 500, 302] {
        idp.change(|habits| habits.status = status);
        let expected = if (400..500).contains(&status) { "bad_oauth_callback" } else { "unexpected_failure" };
        assert_eq!(error(&to_client(&client).await), expected, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_of_the_provider_works_only_in_the_login_it_was_made_for() {
    let (world, _) = start().await;
    let client = world.client();
    // Two logins under way, one a thief's: his code is brought to the other's callback.
    let (mine, his) = (to_callback(&client, &[]).await, to_callback(&client, &[]).await);
    let mut mixed = mine.clone();
    mixed
        .query_pairs_mut()
        .clear()
        .append_pair("code", &param(&his, "code").unwrap())
        .append_pair("state", &param(&mine, "state").unwrap());
    assert_eq!(
        error(&get(&client, mixed.as_str()).await.location()),
        "bad_oauth_callback",
        "the nonce is another"
    );
    let none: i64 =
        world.admin().await.query_one("select count(*) from auth.users", &[]).await.unwrap().get(0);
    assert_eq!(none, 0);
}
