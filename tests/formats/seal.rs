//! The vectors of `golden/seal/`: each says what it holds and its verdict. They were computed with other
//! libraries than the program's, from CRYPTO.md alone (`golden/seal/v1.py`).
//!
//! Guards: no envelope, label, frame or certificate that was ever written becomes unreadable, and nothing that
//! must be refused begins to pass. A file whose name begins with no known family fails.

use backupengine_model::{DeviceId, FrameKind, PackRef, SessionNo, VaultId};
use backupengine_seal::{
    Backend, Certificate, CertificateError, DedupSecret, DeviceSecret, Keyring, MasterSecret, Passphrase,
    RecoveryCode, RootKey, RotationError, SealKey, UnlockSecret, WrapError, device_fingerprint,
    envelope_kind, open_envelope, open_for_device, seal_for_device, seal_rotated_for_device,
    vault_fingerprint, verify_root_signature,
};
use std::collections::BTreeMap;
use std::path::Path;

/// A vector file: its verdict and its values.
struct Vector {
    verdict: String,
    values: BTreeMap<String, String>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut values: BTreeMap<_, _> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(' ').unwrap_or_else(|| panic!("{}: {line:?}", path.display())))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Self { verdict: values.remove("verdict").unwrap(), values }
    }

    fn text(&self, key: &str) -> &str {
        &self.values[key]
    }

    fn bytes(&self, key: &str) -> Vec<u8> {
        let digits = self.text(key).as_bytes();
        assert!(digits.len().is_multiple_of(2), "{key}");
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    fn array<const N: usize>(&self, key: &str) -> [u8; N] {
        self.bytes(key).try_into().unwrap()
    }
}

fn vault() -> VaultId {
    VaultId(std::array::from_fn(|i| 0xa0 + i as u8))
}

fn keyring() -> Keyring {
    let root = RootKey::from_seed([0x33; 32]);
    let (master, dedup) = (MasterSecret::from_bytes([0x11; 32]), DedupSecret::from_bytes([0x22; 32]));
    Keyring::new(vault(), master, dedup, root.public())
}

fn pack() -> PackRef {
    PackRef { session: SessionNo(7), number: 3, salt: [1, 2, 3, 4, 5, 6, 7, 8], epoch: 1 }
}

/// The verdict of the program, in the words of the vectors.
fn judge(name: &str, vector: &Vector) -> String {
    let family = name.split('-').next().unwrap();
    match family {
        "pack" => judged(keyring().pack_key(&pack()).unwrap().check_commitment(&vector.array("commitment"))),
        "gear" => {
            let bytes: Vec<u8> = keyring().gear().iter().flat_map(|value| value.to_le_bytes()).collect();
            same(bytes, vector.bytes("gear"))
        }
        "content" => {
            let id = keyring().content_ids().content_id(&vector.bytes("plain"));
            same(id.0.to_vec(), vector.bytes("content_id"))
        }
        "root" => {
            let hash = keyring().content_ids().root_hash(&vector.bytes("plain"));
            same(hash.0.to_vec(), vector.bytes("root_hash"))
        }
        "hash64" => {
            let hash = keyring().content_ids().hash64(&vector.bytes("plain"));
            same(hash.to_le_bytes().to_vec(), vector.bytes("hash64"))
        }
        "label" => match keyring().open_label(SessionNo(7), &vector.bytes("sealed")) {
            Ok(plain) => {
                let resealed = keyring().seal_label(SessionNo(7), pack().salt, &plain);
                assert_eq!(resealed, vector.bytes("sealed"), "{name}");
                same(plain, vector.bytes("plain"))
            }
            Err(_) => "refuse".into(),
        },
        "frame" => judge_frame(name, vector),
        "signature" => judge_signature(vector),
        "envelope" => judge_envelope(vector),
        "enrolment" => judge_enrolment(vector),
        "rotated" => judge_rotated(vector),
        "sealkey" => {
            let certificate = Certificate::decode(&vector.bytes("certificate")).unwrap();
            judged(certificate.verify_seal_key(&vector.array("seal_public"), &vector.array("signature")))
        }
        "fingerprint" => judge_fingerprint(name, vector),
        _ => panic!("{name}: no test knows this family of vectors"),
    }
}

fn same(ours: Vec<u8>, theirs: Vec<u8>) -> String {
    assert_eq!(ours, theirs);
    "accept".into()
}

fn judged<T, E>(result: Result<T, E>) -> String {
    if result.is_ok() { "accept".into() } else { "refuse".into() }
}

fn judge_frame(name: &str, vector: &Vector) -> String {
    let kind = FrameKind::from_u8(vector.text("kind").parse().unwrap()).unwrap();
    let offset = vector.text("offset").parse().unwrap();
    let verdicts = Backend::ALL.iter().map(|backend| {
        let key = keyring().pack_key_with(&pack(), *backend).unwrap();
        let mut frame = vector.bytes("sealed");
        match key.open(kind, offset, &mut frame) {
            Ok(len) => {
                frame.truncate(len);
                let plain = vector.bytes("plain");
                assert_eq!(frame, plain, "{name}");
                let mut resealed = plain;
                key.seal(kind, offset, &mut resealed, 0);
                same(resealed, vector.bytes("sealed"))
            }
            Err(_) => "refuse".into(),
        }
    });
    let verdicts: Vec<String> = verdicts.collect();
    assert!(verdicts.windows(2).all(|pair| pair[0] == pair[1]), "{name}: the backends disagree");
    verdicts[0].clone()
}

fn judge_signature(vector: &Vector) -> String {
    let result = verify_root_signature(
        vault(),
        keyring().root_public(),
        &vector.bytes("certificate"),
        &vector.array("signature"),
        &vector.bytes("record"),
    );
    match result {
        Ok(device) => same(device.0.to_vec(), vector.bytes("device")),
        Err(error) => untrusted(&error),
    }
}

fn untrusted(error: &CertificateError) -> String {
    match error {
        CertificateError::Malformed => "refuse Malformed".into(),
        CertificateError::Untrusted => "refuse Untrusted".into(),
        CertificateError::BadSignature => "refuse BadSignature".into(),
        CertificateError::RoleMayNotWrite => "refuse RoleMayNotWrite".into(),
        CertificateError::IssuerNotOwner => "refuse IssuerNotOwner".into(),
        CertificateError::ChainTooLong => "refuse ChainTooLong".into(),
        other => panic!("{other}"),
    }
}

fn judge_envelope(vector: &Vector) -> String {
    use backupengine_seal::EnvelopeKind::{Passphrase as Phrase, Recovery};
    let (phrase, code) = (
        Passphrase::new("correct horse 馬".into()),
        RecoveryCode::from_entropy(std::array::from_fn(|i| i as u8)),
    );
    let device = DeviceSecret::from_bytes([0x77; 32]);
    let envelope = vector.bytes("envelope");
    let secret = match envelope_kind(&envelope) {
        Ok(Phrase) => UnlockSecret::Passphrase(&phrase),
        Ok(Recovery) => UnlockSecret::Recovery(&code),
        Ok(_) | Err(_) => UnlockSecret::Device(&device),
    };
    match open_envelope(&envelope, &secret) {
        Ok(opened) => {
            assert_eq!(opened.keyring.vault(), vault());
            assert_eq!(opened.keyring.current_epoch().to_string(), vector.text("epoch"));
            assert_eq!(if opened.root_key.is_some() { "yes" } else { "no" }, vector.text("root_key"));
            // The keys are the vectors' keys: they open what the others were sealed with.
            let ours = keyring().pack_key(&pack()).unwrap();
            let theirs = opened.keyring.pack_key(&pack()).unwrap();
            assert_eq!(ours.commitment(), theirs.commitment());
            assert_eq!(opened.keyring.gear(), keyring().gear());
            assert_eq!(opened.keyring.root_public(), keyring().root_public());
            "accept".into()
        }
        Err(error) => refused(&error),
    }
}

fn refused(error: &WrapError) -> String {
    match error {
        WrapError::Malformed => "refuse Malformed".into(),
        WrapError::Damaged => "refuse Damaged".into(),
        WrapError::UnknownVersion(2) => "refuse UnknownVersion".into(),
        WrapError::KdfOutOfRange => "refuse KdfOutOfRange".into(),
        WrapError::WrongSecret => "refuse WrongSecret".into(),
        WrapError::OtherKind => "refuse OtherKind".into(),
        other => panic!("{other}"),
    }
}

fn judge_enrolment(vector: &Vector) -> String {
    let (key, device) = (SealKey::from_seed([0x88; 32]), DeviceId([0xdd; 16]));
    let envelope = vector.bytes("envelope");
    match open_for_device(&envelope, &key, device) {
        Ok(opened) => {
            assert_eq!(opened.floor, vector.bytes("floor"));
            assert_eq!(vault_fingerprint(&opened.keyring), vault_fingerprint(&keyring()));
            let again =
                seal_for_device(&keyring(), &opened.floor, &key.public(), device, vector.array("random"));
            same(again.unwrap(), envelope)
        }
        Err(error) => refused(&error),
    }
}

/// What a device with the keys of epoch 1 says to newer ones.
fn judge_rotated(vector: &Vector) -> String {
    let (key, device) = (SealKey::from_seed([0x88; 32]), DeviceId([0xdd; 16]));
    let envelope = vector.bytes("envelope");
    let opened = match open_for_device(&envelope, &key, device) {
        Ok(opened) => opened,
        Err(error) => return refused(&error),
    };
    let Some(rotation) = opened.rotation else { return "refuse NoRotation".into() };
    match rotation.verify(&opened.keyring, &keyring()) {
        Ok(()) => {
            assert_eq!(opened.keyring.current_epoch().to_string(), vector.text("epoch"));
            assert_eq!(opened.floor, vector.bytes("floor"));
            let again = seal_rotated_for_device(
                &opened.keyring,
                &opened.floor,
                &rotation,
                &key.public(),
                device,
                vector.array("random"),
            );
            same(again.unwrap(), envelope)
        }
        Err(RotationError::NotOurs) => "refuse NotOurs".into(),
        Err(RotationError::NotAnOwner(error)) => untrusted(&error),
        Err(other) => panic!("{other}"),
    }
}

fn judge_fingerprint(name: &str, vector: &Vector) -> String {
    let words = match name {
        "fingerprint-device" => {
            device_fingerprint(&vector.array("sign_public"), &vector.array("seal_public"))
        }
        "fingerprint-vault" => vault_fingerprint(&keyring()),
        "fingerprint-vault-rotated" => {
            vault_fingerprint(&keyring().rotated(MasterSecret::from_bytes([0x12; 32])).unwrap())
        }
        _ => panic!("{name}"),
    };
    // A recovery code is made of the same list: its words are looked up by their places.
    let places: Vec<String> = words.iter().map(|word| place(word).to_string()).collect();
    assert_eq!(places.join(" "), vector.text("words"));
    "accept".into()
}

/// Where a word stands in the list: the first 11 bits of the code that begins with it.
fn place(word: &str) -> usize {
    (0..2048)
        .find(|&place: &usize| {
            let mut entropy = [0; 32];
            entropy[0] = (place >> 3) as u8;
            entropy[1] = (place << 5) as u8;
            RecoveryCode::from_entropy(entropy).words()[0] == word
        })
        .unwrap()
}

#[test]
fn every_vector_of_seal_gets_its_verdict() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/seal/v1");
    let mut families = std::collections::BTreeSet::new();
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let vector = Vector::read(&path);
        assert_eq!(judge(&name, &vector), vector.verdict, "{name}");
        families.insert(name.split('-').next().unwrap().to_owned());
        count += 1;
    }
    // None may be lost on the way either.
    assert!(count >= 138 && families.len() == 13, "{count} vectors of {families:?}");
}
