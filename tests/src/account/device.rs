//! A device: keys, a login, and signed calls, whole or with one thing wrong in them.
use super::{Server, Session};
use backupengine_api::signature::{self, Headers, Message, Params};
use backupengine_api::{ApiError, OPERATIONS_PATH, Operation};
use backupengine_model::DeviceId;
use backupengine_seal::{DeviceKey, SealKey};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Keys from one byte.
#[derive(Clone)]
pub struct DeviceKeys {
    sign: SigningKey,
    seed: u8,
}

impl DeviceKeys {
    /// The same byte gives the same keys.
    pub fn from_seed(seed: u8) -> Self {
        Self { sign: SigningKey::from_bytes(&[seed; 32]), seed }
    }
    /// For signing root records and certificates.
    pub fn device_key(&self) -> DeviceKey {
        DeviceKey::from_seed([self.seed; 32])
    }
    /// For opening what was sealed to it.
    pub fn seal_key(&self) -> SealKey {
        SealKey::from_seed([self.seed ^ 0x55; 32])
    }
    /// X25519 public half.
    pub fn seal_public(&self) -> [u8; 32] {
        self.seal_key().public()
    }
    /// Ed25519 public half.
    pub fn sign_public(&self) -> [u8; 32] {
        self.sign.verifying_key().to_bytes()
    }
    /// Its id.
    pub fn device(&self) -> DeviceId {
        let mut id = [0; 16];
        id.copy_from_slice(&blake3::hash(&self.sign_public()).as_bytes()[..16]);
        DeviceId(id)
    }
    /// Ed25519.
    pub fn sign(&self, base: &[u8]) -> [u8; 64] {
        self.sign.sign(base).to_bytes()
    }
}

/// A device of a user's.
pub struct Device<'s> {
    /// Where.
    pub server: &'s Server,
    /// Its login.
    pub session: Session,
    /// Its keys.
    pub keys: DeviceKeys,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers in lower case.
    pub headers: Vec<(String, String)>,
    /// JSON; null where it is none.
    pub body: Value,
}

/// A signed call before it is sent: every part may still be changed.
#[derive(Clone)]
pub struct Request {
    /// Name of the operation.
    pub op: String,
    /// After the question mark, which is not in it.
    pub query: String,
    /// Body as it is sent.
    pub body: Vec<u8>,
    /// `Authorization`
    pub authorization: String,
    /// The signature's headers.
    pub headers: Headers,
}

impl<'s> Device<'s> {
    /// Not enrolled by this.
    pub fn new(server: &'s Server, session: Session, keys: DeviceKeys) -> Self {
        Self { server, session, keys }
    }

    /// Enrols it.
    pub fn enroll(&self) -> Value {
        let body = json!({
            "sign_public": base64(&self.keys.sign_public()),
            "seal_public": base64(&self.keys.seal_public()),
            "device": self.keys.device().to_string(),
            "region": self.server.region(),
            "idem": idem(),
        });
        self.ok("device-enroll", &body)
    }

    /// Makes the account's vault: its id. Certificates are opaque to the control plane.
    pub fn make_vault(&self) -> String {
        let vault = idem();
        let body = json!({
            "vault": vault,
            "root_public": base64(&[9; 32]),
            "certificate": base64(b"certificate"),
            "idem": idem(),
        });
        self.ok("vault-create", &body);
        vault
    }

    /// A call that is answered.
    pub fn ok(&self, op: &str, body: &Value) -> Value {
        let answer = self.call(op, body);
        assert_eq!(answer.status, 200, "{op}: {}", answer.body);
        answer.body
    }

    /// A call that is refused: the code.
    pub fn refused(&self, op: &str, body: &Value) -> String {
        self.call(op, body).refusal(op)
    }

    /// A call in the types of the contract.
    pub fn typed<O: Operation>(&self, request: &O::Request) -> O::Answer {
        serde_json::from_value(self.ok(O::NAME, &serde_json::to_value(request).unwrap())).unwrap()
    }

    /// Signed, sent.
    pub fn call(&self, op: &str, body: &Value) -> Answer {
        self.send(&self.sign(op, body))
    }

    /// Signed now, not sent.
    pub fn sign(&self, op: &str, body: &Value) -> Request {
        self.sign_at(op, body, now())
    }

    /// Signed at another time.
    pub fn sign_at(&self, op: &str, body: &Value, created: i64) -> Request {
        let params = Params { created, expires: created + 60, nonce: random(), key: self.key_id() };
        self.sign_with(op, body, &params)
    }

    /// Signed with these parameters.
    pub fn sign_with(&self, op: &str, body: &Value, params: &Params) -> Request {
        let body = serde_json::to_vec(body).unwrap();
        let authorization = format!("Bearer {}", self.session.access);
        let message = Message {
            method: "POST",
            authority: self.server.base().strip_prefix("http://").unwrap(),
            path: &format!("{OPERATIONS_PATH}{op}"),
            query: "",
            body: &body,
            authorization: &authorization,
        };
        let headers = signature::sign(&message, params, |base| self.keys.sign(base));
        Request { op: op.to_owned(), query: String::new(), body, authorization, headers }
    }

    /// Names its key in signatures.
    pub fn key_id(&self) -> [u8; 32] {
        signature::key_id(&self.keys.sign_public())
    }

    /// Sends a request as it is.
    pub fn send(&self, request: &Request) -> Answer {
        let Request { op, query, body, authorization, headers } = request;
        let query = if query.is_empty() { String::new() } else { format!("?{query}") };
        let url = format!("{}{OPERATIONS_PATH}{op}{query}", self.server.base());
        let sent = self
            .server
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("authorization", authorization)
            .header("content-digest", &headers.content_digest)
            .header("signature-input", &headers.signature_input)
            .header("signature", &headers.signature)
            .body(body.clone());
        self.server.wait(async {
            let answer = sent.send().await.unwrap();
            let headers = answer.headers().iter();
            let headers =
                headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()));
            let (status, headers) = (answer.status().as_u16(), headers.collect());
            Answer { status, headers, body: answer.json().await.unwrap_or_default() }
        })
    }
}

impl Answer {
    /// The code; panics where the call was answered, or where code and status disagree.
    pub fn refusal(&self, op: &str) -> String {
        assert_ne!(self.status, 200, "{op} was to be refused");
        let error: ApiError =
            serde_json::from_value(self.body.clone()).unwrap_or_else(|_| panic!("{op}: {}", self.status));
        let code =
            backupengine_api::Code::parse(&error.code).unwrap_or_else(|| panic!("{op}: {}", error.code));
        assert_eq!(code.status(), self.status, "{op}: {}", error.code);
        error.code
    }
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Standard base64, as opaque bytes stand in JSON.
pub fn base64(bytes: &[u8]) -> String {
    serde_json::to_value(backupengine_api::Opaque(bytes.to_vec())).unwrap().as_str().unwrap().to_owned()
}

/// A word that was never used.
pub fn idem() -> String {
    random::<16>().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}
