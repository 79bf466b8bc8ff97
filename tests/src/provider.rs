//! An OpenID provider on loopback: discovery, keys, authorize, token. An outside party, so a stand-in is right.
//!
//! **What it may not do.** Know anything of this product: it is told a client's id and secret and keeps to the protocol.
//! **What always holds.** It is honest until a test changes its [`Habits`]; each code counts once.
//! **Where it is tested.** `tests/server/auth_oauth.rs`, `tests/cli/account_provider.rs`.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use axum::extract::{Form, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use backupengine_server::config::{Provider, Secret};
use base64::Engine;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// What the server is called there.
pub const CLIENT_ID: &str = "backup-client";
const CLIENT_SECRET: &str = "the secret of the client";

/// How it swears.
#[derive(Clone)]
pub struct Signer {
    /// Of the signature.
    pub algorithm: Algorithm,
    /// Private.
    pub key: EncodingKey,
    /// Names it, where it does.
    pub kid: Option<String>,
}

impl Signer {
    /// A new key on P-256.
    pub fn es256(kid: &str) -> Self {
        let pem = backupengine_server::auth::Keys::generate().unwrap();
        let key = EncodingKey::from_ec_pem(pem.expose().as_bytes()).unwrap();
        Self { algorithm: Algorithm::ES256, key, kid: Some(kid.to_owned()) }
    }
    /// A new RSA key.
    pub fn rs256(kid: &str) -> Self {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
        let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n");
        let key = EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap();
        Self { algorithm: Algorithm::RS256, key, kid: Some(kid.to_owned()) }
    }
    fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id = self.kid.clone();
        serde_json::to_value(jwk).unwrap()
    }
}

/// A person who logs in there, and what is said of him.
pub fn person(subject: &str, email: &str) -> Value {
    json!({"sub": subject, "email": email, "email_verified": true})
}

/// What it does and says; tests change it under way.
pub struct Habits {
    /// Shown at `/keys`.
    pub keys: Vec<Value>,
    /// With what it signs.
    pub signer: Signer,
    /// Who logs in.
    pub person: Value,
    /// Laid over the claims of the id_token; null takes one away.
    pub claims: Value,
    /// Laid over the discovery document.
    pub document: Value,
    /// Given out in place of the id_token.
    pub token: Option<String>,
    /// Nobody agrees: back with `access_denied`.
    pub refuses: bool,
    /// Status of the token endpoint.
    pub status: u16,
    /// How often its keys were fetched.
    pub fetched: u32,
    codes: BTreeMap<String, String>,
    /// What the token endpoint was sent last.
    pub form: HashMap<String, String>,
}

/// One that runs, as long as the runtime it was started in.
#[derive(Clone)]
pub struct Idp {
    /// Its issuer: `http://127.0.0.1:PORT`.
    pub base: String,
    habits: Arc<Mutex<Habits>>,
}

impl Idp {
    /// On a free port.
    pub async fn start(signer: Signer) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let habits = Habits {
            keys: vec![json!({"kty": "unheard-of", "kid": "odd"}), signer.jwk()],
            signer,
            person: person("subject-1", "ada@example.org"),
            claims: json!({}),
            document: json!({}),
            token: None,
            refuses: false,
            status: 200,
            fetched: 0,
            codes: BTreeMap::new(),
            form: HashMap::new(),
        };
        let idp = Self { base, habits: Arc::new(Mutex::new(habits)) };
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(document))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .route("/keys", get(keys))
            .with_state(idp.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await });
        idp
    }
    /// Changes or looks at what it does.
    pub fn change<T>(&self, change: impl FnOnce(&mut Habits) -> T) -> T {
        change(&mut self.habits.lock().unwrap())
    }
    /// As the server is told of it.
    pub fn settings(&self, name: &str) -> Provider {
        Provider {
            name: name.into(),
            issuer: self.base.clone(),
            client_id: CLIENT_ID.into(),
            client_secret: Secret::new(CLIENT_SECRET.into()),
        }
    }
    /// From now on it signs with this, and shows it.
    pub fn rotate(&self, signer: Signer) {
        self.change(|habits| {
            habits.keys = vec![signer.jwk()];
            habits.signer = signer;
        });
    }
}

fn lay_over(value: &mut Value, changes: &Value) {
    for (name, change) in changes.as_object().unwrap() {
        match change {
            Value::Null => drop(value.as_object_mut().unwrap().remove(name)),
            change => value[name] = change.clone(),
        }
    }
}

async fn document(State(idp): State<Idp>) -> Json<Value> {
    let base = &idp.base;
    let mut document = json!({
        "issuer": base, "authorization_endpoint": format!("{base}/authorize"),
        "token_endpoint": format!("{base}/token"), "jwks_uri": format!("{base}/keys"),
        "response_types_supported": ["code"],
    });
    idp.change(|habits| lay_over(&mut document, &habits.document));
    Json(document)
}

async fn keys(State(idp): State<Idp>) -> Json<Value> {
    idp.change(|habits| {
        habits.fetched += 1;
        Json(json!({"keys": habits.keys}))
    })
}

/// The person has logged in and agreed: back with a code. Or has not.
async fn authorize(State(idp): State<Idp>, Query(asked): Query<HashMap<String, String>>) -> Response {
    assert_eq!((asked["client_id"].as_str(), asked["response_type"].as_str()), (CLIENT_ID, "code"));
    assert!(asked["scope"].split(' ').any(|scope| scope == "openid"));
    let code = format!("code-{}", asked["state"]);
    let mut back: url::Url = asked["redirect_uri"].parse().unwrap();
    let refuses = idp.change(|habits| {
        habits.codes.insert(code.clone(), asked["nonce"].clone());
        habits.refuses
    });
    let said = if refuses { ("error", "access_denied") } else { ("code", code.as_str()) };
    back.query_pairs_mut().append_pair(said.0, said.1).append_pair("state", &asked["state"]);
    (StatusCode::FOUND, [("location", back.to_string())]).into_response()
}

async fn token(State(idp): State<Idp>, Form(form): Form<HashMap<String, String>>) -> Response {
    idp.change(|habits| {
        habits.form = form.clone();
        let nonce = habits.codes.remove(&form["code"]);
        let right = form["client_id"] == CLIENT_ID && form["client_secret"] == CLIENT_SECRET;
        let Some(nonce) = nonce.filter(|_| right && form["grant_type"] == "authorization_code") else {
            return (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response();
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let mut claims =
            json!({"iss": idp.base, "aud": CLIENT_ID, "iat": now, "exp": now + 300, "nonce": nonce});
        lay_over(&mut claims, &habits.person);
        lay_over(&mut claims, &habits.claims);
        let mut header = Header::new(habits.signer.algorithm);
        header.kid = habits.signer.kid.clone();
        let signed = jsonwebtoken::encode(&header, &claims, &habits.signer.key).unwrap();
        let id_token = habits.token.clone().unwrap_or(signed);
        let answer = json!({"access_token": "theirs", "token_type": "Bearer", "id_token": id_token});
        (StatusCode::from_u16(habits.status).unwrap(), Json(answer)).into_response()
    })
}
