//! Ids in JSON: lower-case hexadecimal digits, exactly as many as the id has.
macro_rules! id {
    ($module:ident, $id:ident) => {
        pub(crate) mod $module {
            use backupengine_model::$id;
            use serde::{Deserialize, Deserializer, Serializer};

            pub(crate) fn serialize<S: Serializer>(id: &$id, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(id)
            }
            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<$id, D::Error> {
                $id::from_hex(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }
    };
}
id!(vault, VaultId);
id!(device, DeviceId);
id!(snapshot, SnapshotId);
