//! Who asks: signatures of requests, held against an implementation of the standard that is not ours, and everything
//! that may be wrong with one.
use axum::http::Request as Http;
use backupengine_api::signature::{self, Headers, Message, Params, TAG};
use backupengine_api::{OPERATIONS_PATH, signature::content_digest};
use backupengine_tests::account::{Answer, Device, DeviceKeys, Request, Server, base64, idem, now};
use httpsig_hyper::prelude::message_component::HttpMessageComponentId;
use httpsig_hyper::prelude::{AlgorithmName, HttpSignatureParams, PublicKey, SecretKey};
use httpsig_hyper::{MessageSignatureReq, RequestContentDigest};
use serde_json::json;

const COMPONENTS: [&str; 6] = ["@method", "@authority", "@path", "@query", "content-digest", "authorization"];

fn plain(server: &Server, op: &str, request: &Request) -> Http<String> {
    let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
    Http::post(format!("{}{OPERATIONS_PATH}{op}{query}", server.base()))
        .header("authorization", &request.authorization)
        .header("content-digest", &request.headers.content_digest)
        .body(String::from_utf8(request.body.clone()).unwrap())
        .unwrap()
}

/// Signs with the other implementation what ours would have signed.
fn signed_by_the_other(device: &Device<'_>, seed: u8, op: &str, query: &str, components: &[&str]) -> Request {
    let mut request = device.sign(op, &json!({}));
    query.clone_into(&mut request.query);
    let mut http = plain(device.server, op, &request);
    let ids: Vec<_> =
        components.iter().map(|name| HttpMessageComponentId::try_from(*name).unwrap()).collect();
    let mut params = HttpSignatureParams::try_new(&ids).unwrap();
    let created = now() as u64;
    params.set_created(created).set_expires(created + 60).set_nonce(&base64(&[7; 16]));
    params.set_alg(&AlgorithmName::Ed25519).set_keyid(&base64(&device.key_id())).set_tag(TAG);
    let key = SecretKey::from_bytes(&AlgorithmName::Ed25519, &[seed; 32]).unwrap();
    device.server.wait(http.set_message_signature(&params, &key, Some("dev"))).unwrap();
    let header = |name| http.headers().get(name).unwrap().to_str().unwrap().to_owned();
    request.headers.signature_input = header("signature-input");
    request.headers.signature = header("signature");
    request
}

#[test]
fn another_implementation_signs_and_we_verify() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    for query in ["", "a=b&c=%20d"] {
        let request = signed_by_the_other(&device, 1, "vault-list", query, &COMPONENTS);
        assert_eq!(device.send(&request).status, 200, "query {query:?}");
    }
    let by_another_key = signed_by_the_other(&device, 2, "vault-list", "", &COMPONENTS);
    assert_eq!(device.send(&by_another_key).refusal("vault-list"), "bad_signature");
    // It holds by the standard, and covers less than we ask for.
    for left_out in 0..COMPONENTS.len() {
        let fewer = [&COMPONENTS[..left_out], &COMPONENTS[left_out + 1..]].concat();
        let request = signed_by_the_other(&device, 1, "vault-list", "", &fewer);
        assert_eq!(
            device.send(&request).refusal("vault-list"),
            "bad_signature",
            "without {}",
            COMPONENTS[left_out]
        );
    }
}

#[test]
fn we_sign_and_another_implementation_verifies() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let request = device.sign("vault-list", &json!({}));
    let with = |op: &str, request: &Request| {
        let mut http = plain(&server, op, request);
        let headers = http.headers_mut();
        headers.insert("signature-input", request.headers.signature_input.parse().unwrap());
        headers.insert("signature", request.headers.signature.parse().unwrap());
        http
    };
    let public = PublicKey::from_bytes(&AlgorithmName::Ed25519, &device.keys.sign_public()).unwrap();
    let other =
        PublicKey::from_bytes(&AlgorithmName::Ed25519, &DeviceKeys::from_seed(2).sign_public()).unwrap();
    let verdict =
        |http: &Http<String>, key: &PublicKey| server.wait(http.verify_message_signature(key, None)).is_ok();
    let good = with("vault-list", &request);
    assert!(verdict(&good, &public));
    assert!(server.wait(good.verify_content_digest()).is_ok());
    assert!(!verdict(&with("vault-list", &request), &other));
    assert!(!verdict(&with("device-list", &request), &public), "another path");
    assert!(!verdict(&with("vault-list", &Request { query: "a=b".to_owned(), ..request.clone() }), &public));
    let body = with("vault-list", &Request { body: b"{ }".to_vec(), ..request });
    assert!(server.wait(body.verify_content_digest()).is_err());
}

#[test]
fn what_was_signed_is_what_is_asked() {
    let server = Server::start();
    let user = server.user("a@example.org");
    let device = user.device(1);
    let good = device.sign("vault-list", &json!({}));
    let refused = |what: &str, change: &dyn Fn(&mut Request), code: &str| {
        let mut request = good.clone();
        change(&mut request);
        assert_eq!(device.send(&request).refusal(what), code, "{what}");
    };
    refused("another body", &|request| request.body = b"{ }".to_vec(), "bad_signature");
    refused(
        "another body with its digest",
        &|request| {
            request.body = b"{ }".to_vec();
            request.headers.content_digest = content_digest(b"{ }");
        },
        "bad_signature",
    );
    refused("another query", &|request| request.query = "a=b".to_owned(), "bad_signature");
    refused("another operation", &|request| request.op = "device-list".to_owned(), "bad_signature");
    refused("another spelling of it", &|request| request.op = "vault%2Dlist".to_owned(), "no_such_operation");
    let again = user.login();
    refused(
        "another token of the same user",
        &|request| request.authorization = format!("Bearer {}", again.access),
        "bad_signature",
    );
    refused(
        "another nonce",
        &|request| {
            let input = &mut request.headers.signature_input;
            let at = input.find("nonce=\"").unwrap() + 7;
            let other = if input.as_bytes()[at] == b'A' { "B" } else { "A" };
            input.replace_range(at..=at, other);
        },
        "bad_signature",
    );
    refused(
        "the digest by another sum",
        &|request| {
            request.headers.content_digest = request.headers.content_digest.replace("sha-256", "sha-512")
        },
        "bad_signature",
    );
    refused("no signature", &|request| request.headers.signature = String::new(), "bad_signature");
    refused("a short one", &|request| request.headers.signature = "dev=:AAAA:".to_owned(), "bad_signature");
    refused(
        "one of zeros",
        &|request| request.headers.signature = format!("dev=:{}:", base64(&[0; 64])),
        "bad_signature",
    );
    assert_eq!(device.send(&good).status, 200, "and as it was it holds");
}

#[test]
fn time_is_the_servers() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let at = |created| device.send(&device.sign_at("vault-list", &json!({}), created));
    assert_eq!(at(now() - 40).status, 200);
    assert_eq!(at(now() + 40).status, 200);
    for created in [now() - 130, now() - 70, now() + 90, 0, i64::MAX / 2] {
        let answer = at(created);
        assert_eq!(answer.refusal("vault-list"), "clock_skew", "{}", created - now());
        assert!(
            answer.header("date").is_some_and(|date| date.ends_with("GMT")),
            "the client sets its offset by it"
        );
    }
    let params = Params { created: now(), expires: now() + 61, nonce: [1; 16], key: device.key_id() };
    let long = device.sign_with("vault-list", &json!({}), &params);
    assert_eq!(device.send(&long).refusal("vault-list"), "clock_skew");
    // An old one with a new date is no signature any more.
    let mut dated = device.sign_at("vault-list", &json!({}), now() - 1000);
    let fresh = device.sign("vault-list", &json!({}));
    dated.headers.signature_input = fresh.headers.signature_input;
    assert_eq!(device.send(&dated).refusal("vault-list"), "bad_signature");
}

#[test]
fn a_change_is_taken_once() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let vault = device.make_vault();
    let open = device.sign("session-open", &json!({"vault": vault, "kind": "push", "idem": idem()}));
    assert_eq!(device.send(&open).status, 200);
    assert_eq!(device.send(&open).refusal("session-open"), "replayed");
    let sessions = device.ok("session-list", &json!({"vault": vault, "after": 0, "limit": 10}));
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "nothing was done twice");
    // What is refused has not used up its nonce: the refusal is the same again.
    let refused = device.sign("session-open", &json!({"vault": vault, "kind": "nonsense", "idem": idem()}));
    for _ in 0..2 {
        assert_eq!(device.send(&refused).refusal("session-open"), "bad_request");
    }
}

#[test]
fn a_stolen_token_is_nothing_without_the_key() {
    let server = Server::start();
    let alice = server.user("a@example.org");
    let device = alice.device(1);
    device.make_vault();
    let thief = server.user("t@example.org").device(2);
    let refused = |what: &str, request: &Request, code: &str| {
        let answer: Answer = device.send(request);
        assert_eq!(answer.refusal(what), code, "{what}");
        assert!(
            !answer.body.to_string().contains(&device.session.access[..40]),
            "the token is not said again"
        );
    };
    let with_token = |seed| Device::new(&server, device.session.clone(), DeviceKeys::from_seed(seed));
    refused("a key nobody enrolled", &with_token(3).sign("vault-list", &json!({})), "unknown_device");
    refused("a key of another account", &with_token(2).sign("vault-list", &json!({})), "unknown_device");
    let own = thief.sign("vault-list", &json!({}));
    let mixed = Request { authorization: format!("Bearer {}", device.session.access), ..own };
    refused("another account's signature", &mixed, "bad_signature");
    let nothing =
        Headers { content_digest: String::new(), signature_input: String::new(), signature: String::new() };
    let bare = Request { headers: nothing, ..device.sign("vault-list", &json!({})) };
    refused("no signature at all", &bare, "bad_signature");
    // Enrolling a key takes the key: its id alone in the signature does not do.
    let victim = DeviceKeys::from_seed(9);
    let body = json!({"sign_public": base64(&victim.sign_public()), "seal_public": base64(&victim.seal_public()),
        "device": victim.device().to_string(), "region": "eu", "idem": idem()});
    refused("a key that signed nothing", &with_token(3).sign("device-enroll", &body), "bad_signature");
    let key = signature::key_id(&victim.sign_public());
    let params = Params { created: now(), expires: now() + 60, nonce: [2; 16], key };
    refused(
        "a key under another's id",
        &with_token(3).sign_with("device-enroll", &body, &params),
        "bad_signature",
    );
}

#[test]
fn the_host_header_says_nothing() {
    let server = Server::start();
    let device = server.user("a@example.org").device(1);
    let send = |host: &str, headers: &Headers, authorization: &str| {
        let sent = server.client().post(format!("{}{OPERATIONS_PATH}vault-list", server.base()));
        let sent = sent.header("host", host).header("authorization", authorization).body("{}");
        let sent = sent
            .header("content-digest", &headers.content_digest)
            .header("signature-input", &headers.signature_input)
            .header("signature", &headers.signature);
        server.wait(async { sent.send().await.unwrap().status().as_u16() })
    };
    let good = device.sign("vault-list", &json!({}));
    assert_eq!(send("evil.example.org", &good.headers, &good.authorization), 200, "ours was signed");
    let message = Message {
        method: "POST",
        authority: "evil.example.org",
        path: &format!("{OPERATIONS_PATH}vault-list"),
        query: "",
        body: b"{}",
        authorization: &good.authorization,
    };
    let params = Params { created: now(), expires: now() + 60, nonce: [3; 16], key: device.key_id() };
    let elsewhere = signature::sign(&message, &params, |base| device.keys.sign(base));
    assert_eq!(send("evil.example.org", &elsewhere, &good.authorization), 401, "another server's was signed");
}
