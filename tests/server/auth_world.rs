//! A server of one's own and a client of its `/auth/v1`, for the tests of identity: every header, code and field can
//! be looked at, which the shared room hides.
use backupengine_api::auth::Session;
use backupengine_tests::account::{DevConfig, Server};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A good password, for accounts whose password does not matter.
pub(crate) const PASSWORD: &str = "correct horse battery";

/// A control plane, seen from the side of identity.
pub(crate) struct World(Server);

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }
    pub(crate) async fn with(change: impl FnOnce(&mut DevConfig)) -> Self {
        Self(Server::with(change))
    }
    pub(crate) fn base(&self) -> &str {
        self.0.base()
    }
    pub(crate) fn client(&self) -> Client {
        Client::new(self.base())
    }
    /// What the server made up for itself: a test may hold its key, and still must not get through.
    pub(crate) fn secret(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.0.data().join("secrets.json")).unwrap();
        let secrets: Value = serde_json::from_str(&text).unwrap();
        secrets[name].as_str().unwrap().to_owned()
    }
    /// The database as a superuser: for looking inside, and for time that cannot be waited for.
    pub(crate) async fn admin(&self) -> tokio_postgres::Client {
        let url = &self.0.dev().admin_database_url;
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
        drop(tokio::spawn(connection));
        client
    }
    /// The database as the role that identity has.
    pub(crate) async fn auth_role(&self) -> tokio_postgres::Client {
        let client = self.admin().await;
        client.batch_execute("set session authorization backupengine_auth").await.unwrap();
        client
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    /// The code of a refusal, after everything about its shape was checked.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16) -> &str {
        assert_eq!(self.status, status, "{:?}", self.body);
        let code = self.body["code"].as_str().unwrap();
        assert!(!self.body["message"].as_str().unwrap().is_empty());
        assert_eq!(self.headers["x-sb-error-code"], code);
        assert_eq!(self.headers["cache-control"], "no-store");
        code
    }
    /// The session a login ended in.
    #[track_caller]
    pub(crate) fn session(self) -> Session {
        assert_eq!(self.status, 200, "{:?}", self.body);
        assert_eq!(self.headers["cache-control"], "no-store");
        serde_json::from_value(self.body).unwrap()
    }
    /// The body of a call that went well.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{:?}", self.body);
        self.body
    }
    pub(crate) fn location(&self) -> url::Url {
        assert_eq!(self.status, 302, "{:?}", self.body);
        self.headers["location"].to_str().unwrap().parse().unwrap()
    }
}

/// A client of one server, from one address.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) base: String,
    http: reqwest::Client,
}

impl Client {
    pub(crate) fn new(base: &str) -> Self {
        Self::from_address(base, "127.0.0.1")
    }
    /// Linux has all of 127/8.
    pub(crate) fn from_address(base: &str, address: &str) -> Self {
        let http = reqwest::Client::builder()
            .local_address(address.parse::<std::net::IpAddr>().unwrap())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .unwrap();
        Self { base: base.to_owned(), http }
    }
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url =
            if path.starts_with("http") { path.to_owned() } else { format!("{}/auth/v1{path}", self.base) };
        self.http.request(method, url)
    }
    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Answer { status, headers, body }
    }
    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::GET, path).bearer_auth(token)).await
    }
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }
    pub(crate) async fn post_as(&self, token: &str, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).bearer_auth(token).json(&body)).await
    }
    pub(crate) async fn put_as(&self, token: &str, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).bearer_auth(token).json(&body)).await
    }
    pub(crate) async fn delete_as(&self, token: &str, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path).bearer_auth(token)).await
    }

    pub(crate) async fn signup(&self, email: &str) -> Session {
        self.post("/signup", json!({"email": email, "password": PASSWORD})).await.session()
    }
    pub(crate) async fn login(&self, email: &str, password: &str) -> Answer {
        self.post("/token?grant_type=password", json!({"email": email, "password": password})).await
    }
    pub(crate) async fn refresh(&self, token: &str) -> Answer {
        self.post("/token?grant_type=refresh_token", json!({"refresh_token": token})).await
    }
    pub(crate) async fn enroll(&self, token: &str) -> Device {
        let body = self
            .post_as(token, "/factors", json!({"factor_type": "totp", "friendly_name": fresh("phone")}))
            .await
            .ok();
        Device::read(&body)
    }
    pub(crate) async fn challenge(&self, token: &str, factor: &str) -> String {
        let body = self.post_as(token, &format!("/factors/{factor}/challenge"), json!({})).await.ok();
        body["id"].as_str().unwrap().to_owned()
    }
    pub(crate) async fn verify(&self, token: &str, factor: &str, challenge: &str, code: &str) -> Answer {
        let body = json!({"challenge_id": challenge, "code": code});
        self.post_as(token, &format!("/factors/{factor}/verify"), body).await
    }
    /// Challenge and verify with the code `steps` from now.
    pub(crate) async fn confirm(&self, token: &str, device: &Device, steps: i64) -> Answer {
        self.confirm_with(token, device, &device.code(steps)).await
    }
    pub(crate) async fn confirm_with(&self, token: &str, device: &Device, code: &str) -> Answer {
        let challenge = self.challenge(token, &device.factor).await;
        self.verify(token, &device.factor, &challenge, code).await
    }
    /// A new account at aal2, and its authenticator. The code of the next step is still good for one more.
    pub(crate) async fn signup_aal2(&self, email: &str) -> (Session, Device) {
        let session = self.signup(email).await;
        let device = self.enroll(&session.access_token.0).await;
        (self.confirm(&session.access_token.0, &device, 0).await.session(), device)
    }
}

/// An authenticator.
pub(crate) struct Device {
    pub(crate) factor: String,
    pub(crate) totp: totp_rs::Totp,
}

impl Device {
    #[track_caller]
    pub(crate) fn read(body: &Value) -> Self {
        let uri = body["totp"]["uri"].as_str().unwrap();
        Self { factor: body["id"].as_str().unwrap().to_owned(), totp: totp_rs::Totp::from_url(uri).unwrap() }
    }
    pub(crate) fn code(&self, steps: i64) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
        self.totp.generate((now + 30 * steps) as u64).to_string()
    }
    /// Six digits that are no code near now.
    pub(crate) fn wrong(&self) -> String {
        let near: Vec<_> = (-3..=3).map(|step| self.code(step)).collect();
        (0..).map(|n| format!("{n:06}")).find(|code| !near.contains(code)).unwrap()
    }
}

/// A name no other test has.
pub(crate) fn fresh(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// An address no other test has.
pub(crate) fn address() -> String {
    format!("{}@example.org", fresh("somebody"))
}

/// What stands in an access token, unverified.
pub(crate) fn claims(token: &str) -> Value {
    use base64::Engine;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap())
        .unwrap()
}
