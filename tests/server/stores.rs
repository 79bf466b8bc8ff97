//! What the tests of grants and of rebuilding share: a vault with something pushed into it.
use backupengine_tests::account::{Device, Server, base64, idem};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A blob and the number it is announced under.
pub(crate) struct Blob<'a> {
    pub(crate) kind: &'a str,
    pub(crate) number: u32,
    pub(crate) bytes: &'a [u8],
}

/// An open session of a vault.
pub(crate) struct Session<'a, 's> {
    pub(crate) device: &'a Device<'s>,
    pub(crate) vault: &'a str,
    pub(crate) number: u64,
}

impl<'a, 's> Session<'a, 's> {
    pub(crate) fn open(device: &'a Device<'s>, vault: &'a str) -> Self {
        let opened = device.ok("session-open", &json!({"vault": vault, "kind": "push", "idem": idem()}));
        Self { device, vault, number: opened["session"].as_u64().unwrap() }
    }

    pub(crate) fn want(&self, blobs: &[Blob<'_>]) -> Value {
        let blobs: Vec<Value> = blobs
            .iter()
            .map(|blob| {
                json!({"kind": blob.kind, "number": blob.number, "length": blob.bytes.len(),
                    "sha256": base64(&Sha256::digest(blob.bytes))})
            })
            .collect();
        json!({"vault": self.vault, "session": self.number, "blobs": blobs})
    }

    pub(crate) fn grant(&self, blob: &Blob<'_>) -> Value {
        let want = self.want(std::slice::from_ref(blob));
        self.device.ok("session-urls", &want)["grants"][0].clone()
    }

    pub(crate) fn put(&self, blob: &Blob<'_>) {
        assert_eq!(put(self.device.server, &self.grant(blob), blob.bytes), 200);
    }

    /// With these packs, and a root whose trailer says so.
    pub(crate) fn commit_of(&self, packs: &[&[u8]], root: &[u8], id: &str, head_len: u32) -> Value {
        let bytes: usize = packs.iter().map(|pack| pack.len()).sum::<usize>() + root.len();
        json!({"vault": self.vault, "session": self.number, "id": id,
            "device": self.device.keys.device().to_string(), "created": {"secs": 7, "nanos": 0},
            "root_size": root.len(), "head_len": head_len, "label": "", "packs": packs.len(), "bytes": bytes,
            "meta_packs": []})
    }
}

/// Sends a body where a grant says: the status.
pub(crate) fn put(server: &Server, grant: &Value, body: &[u8]) -> u16 {
    let mut sent = server.client().put(grant["url"].as_str().unwrap()).body(body.to_vec());
    for (name, value) in grant["headers"].as_object().unwrap() {
        sent = sent.header(name, value.as_str().unwrap());
    }
    server.wait(async { sent.send().await.unwrap().status().as_u16() })
}

/// Status, `Cache-Control` and body of a GET, with a range if any.
pub(crate) fn get(server: &Server, url: &str, range: Option<&str>) -> (u16, Option<String>, Vec<u8>) {
    let mut sent = server.client().get(url);
    if let Some(range) = range {
        sent = sent.header("range", range);
    }
    server.wait(async {
        let answer = sent.send().await.unwrap();
        let cache = answer.headers().get("cache-control").map(|value| value.to_str().unwrap().to_owned());
        (answer.status().as_u16(), cache, answer.bytes().await.unwrap().to_vec())
    })
}
