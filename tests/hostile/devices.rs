//! The control plane adds devices, raises roles, and lets writers pose as owners: their roots are not believed.
use crate::world::{World, refusal};
use backupengine_model::SessionNo;
use backupengine_push::Device;
use backupengine_seal::{Certificate, CertificateError, DeviceKey, Role, RootKey};
use backupengine_testkit::build::VAULT;
use backupengine_vault::VaultError;

/// A snapshot pushed by a device with this certificate.
fn pushed_with(world: &World, key: DeviceKey, certificate: Certificate) -> SessionNo {
    let mut pusher = world.vault.pusher("stranger");
    pusher.device = Device { key, certificate };
    world.write("planted", b"planted");
    pusher.push(world.source())
}

fn cause(world: &World, session: SessionNo) -> CertificateError {
    let refused = refusal(&world.client(), session);
    let said = refused.to_string();
    assert!(said.contains(&format!("session {session}")), "{said}");
    let VaultError::Untrusted { source, .. } = refused else { panic!("{refused:?}") };
    source
}

fn stranger() -> DeviceKey {
    DeviceKey::from_seed([0x51; 32])
}

#[test]
fn a_device_the_root_key_never_certified_is_nobody() {
    let (world, sessions) = World::with(1);
    let truth = world.truth(sessions[0]);
    // By a root key of the server's own.
    let root = RootKey::from_seed([0x52; 32]);
    let certificate = root.certify(VAULT, stranger().public(), Role::Owner, 0);
    let planted = pushed_with(&world, stranger(), certificate);
    assert_eq!(cause(&world, planted), CertificateError::Untrusted);
    // By an owner of the server's own, chained to nothing.
    let owner = root.certify(VAULT, stranger().public(), Role::Owner, 0);
    let second = DeviceKey::from_seed([0x53; 32]);
    let certificate = stranger().certify(&owner, second.public(), Role::Writer, 0).unwrap();
    let planted = pushed_with(&world, second, certificate);
    assert_eq!(cause(&world, planted), CertificateError::Untrusted);
    // What was there before reads as before.
    assert_eq!(world.reads(sessions[0], &truth), Ok(()));
}

#[test]
fn roles_are_not_raised() {
    let (world, _) = World::with(1);
    let root = &world.vault.root_key;
    let reader = root.certify(VAULT, stranger().public(), Role::Reader, 0);
    let planted = pushed_with(&world, stranger(), reader.clone());
    assert_eq!(cause(&world, planted), CertificateError::RoleMayNotWrite);
    let raised = Certificate { role: Role::Owner, ..reader };
    let planted = pushed_with(&world, stranger(), raised);
    assert_eq!(cause(&world, planted), CertificateError::Untrusted);
}

#[test]
fn a_writer_posing_as_owner_certifies_nobody() {
    let (world, _) = World::with(1);
    for role in [Role::Writer, Role::Maintainer, Role::Reader] {
        let own = world.vault.root_key.certify(VAULT, stranger().public(), role, 0);
        let second = DeviceKey::from_seed([0x53; 32]);
        assert_eq!(
            stranger().certify(&own, second.public(), Role::Owner, 0),
            Err(CertificateError::IssuerNotOwner)
        );
        // With a certificate whose role it raised itself, its own program lets it: no client does.
        let raised = Certificate { role: Role::Owner, ..own };
        let certificate = stranger().certify(&raised, second.public(), Role::Owner, 0).unwrap();
        let planted = pushed_with(&world, second, certificate);
        assert_eq!(cause(&world, planted), CertificateError::Untrusted);
    }
}

#[test]
fn a_device_an_owner_certified_counts() {
    let (world, _) = World::with(1);
    let owner = &world.device.device;
    let second = DeviceKey::from_seed([0x53; 32]);
    let certificate = owner.key.certify(&owner.certificate, second.public(), Role::Writer, 0).unwrap();
    let session = pushed_with(&world, second, certificate);
    assert!(world.client().root(session).is_ok());
}
