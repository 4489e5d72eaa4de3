//! The forms of values for serde.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::export::{BlockSize, Export};
use crate::extent::Context;
use crate::uri::Uri;
use crate::wire::{ProtocolError, ReplyStyle, TransmissionFlags};

/// The text, which is what a user writes into a configuration. It includes the user name.
impl Serialize for Uri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::try_from(text).map_err(de::Error::custom)
    }
}

/// Block sizes that may contradict each other.
#[derive(Deserialize)]
#[serde(rename = "BlockSize")]
struct UncheckedBlockSize {
    minimum: u32,
    preferred: u32,
    maximum: u32,
}

/// Block sizes are checked like those of a server.
impl<'de> Deserialize<'de> for BlockSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let sizes = UncheckedBlockSize::deserialize(deserializer)?;
        Self::new(sizes.minimum, sizes.preferred, sizes.maximum).map_err(de::Error::custom)
    }
}

/// An export as it is written.
#[derive(Deserialize, Serialize)]
#[serde(rename = "Export")]
struct ExportForm {
    name: String,
    canonical_name: Option<String>,
    description: Option<String>,
    size: u64,
    flags: u16,
    block_size: Option<BlockSize>,
    contexts: Vec<ContextForm>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    stray_contexts: Vec<ContextForm>,
    read_only: bool,
    payload_limit: u32,
}

#[derive(Deserialize, Serialize)]
#[serde(rename = "Context")]
struct ContextForm {
    id: u32,
    name: String,
}

fn written(contexts: &[Context]) -> Vec<ContextForm> {
    let written = |context: &Context| ContextForm {
        id: context.id,
        name: context.name.to_string(),
    };
    contexts.iter().map(written).collect()
}

fn read(contexts: Vec<ContextForm>) -> Vec<Context> {
    let read = |context: ContextForm| Context {
        id: context.id,
        name: context.name.into(),
    };
    contexts.into_iter().map(read).collect()
}

impl Serialize for Export {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let description = self.description.as_ref();
        let form = ExportForm {
            name: self.name.clone(),
            canonical_name: self.canonical_name.clone(),
            description: description.map(|text| text.as_str().to_owned()),
            size: self.size,
            flags: self.flags.bits(),
            block_size: self.block_size,
            contexts: written(&self.contexts),
            stray_contexts: written(&self.strays),
            read_only: self.read_only,
            payload_limit: self.payload_limit,
        };
        form.serialize(serializer)
    }
}

/// Size and flags are checked like those of a server.
impl<'de> Deserialize<'de> for Export {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = ExportForm::deserialize(deserializer)?;
        Self::try_from(form).map_err(de::Error::custom)
    }
}

impl TryFrom<ExportForm> for Export {
    type Error = ProtocolError;

    fn try_from(form: ExportForm) -> Result<Self, ProtocolError> {
        let flags = TransmissionFlags::from_bits_retain(form.flags);
        // Flags without their ground were left out when it was written.
        let export = Self::new(&form.name, form.size, flags, ReplyStyle::Extended)?;
        Ok(Self {
            canonical_name: form.canonical_name,
            description: form.description.map(|text| (&*text).into()),
            block_size: form.block_size,
            contexts: read(form.contexts),
            strays: read(form.stray_contexts),
            read_only: form.read_only,
            payload_limit: form.payload_limit,
            ..export
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::de::DeserializeOwned;
    use serde_json::json;

    use super::*;
    use crate::extent::Extent;
    use crate::stats::Stats;

    #[track_caller]
    fn round_trip<T>(value: &T, form: &serde_json::Value)
    where
        T: Serialize + DeserializeOwned + Debug + PartialEq,
    {
        assert_eq!(&serde_json::to_value(value).unwrap(), form);
        let text = serde_json::to_string(value).unwrap();
        assert_eq!(&serde_json::from_str::<T>(&text).unwrap(), value);
    }

    fn export() -> Export {
        let flags = TransmissionFlags::HAS_FLAGS | TransmissionFlags::SEND_FLUSH;
        let mut export = Export::new("disk \u{1f4be}", 1 << 40, flags, ReplyStyle::Simple).unwrap();
        export.payload_limit = 1 << 20;
        export
    }

    #[test]
    fn uri_is_its_text() {
        for text in [
            "nbd://localhost/",
            "nbds://alice@[::1]:10810/a%20b?tls-verify-peer=0",
            "nbd+unix:///?socket=/run/nbd.sock",
        ] {
            round_trip(&text.parse::<Uri>().unwrap(), &json!(text));
        }
        let error = serde_json::from_str::<Uri>("\"nbd://alice@h:x/\"").unwrap_err();
        let error = error.to_string();
        assert!(error.contains("port: it is not a number"), "{error}");
        assert!(!error.contains("alice"), "{error}");
    }

    #[test]
    fn extents_sizes_and_counts_have_the_names_of_their_fields() {
        let form = json!({ "offset": 4096, "length": 512, "flags": 3 });
        round_trip(&Extent::new(4096, 512, 3), &form);
        let form = json!({ "minimum": 512, "preferred": 4096, "maximum": 33_554_432 });
        round_trip(&BlockSize::new(512, 4096, 32 << 20).unwrap(), &form);
        let stats = Stats {
            bytes_sent: 1,
            messages_received: u64::MAX,
            ..Stats::default()
        };
        let text = serde_json::to_string(&stats).unwrap();
        assert_eq!(serde_json::from_str::<Stats>(&text).unwrap(), stats);
        let form = serde_json::to_value(stats).unwrap();
        assert_eq!(form["bytes_sent"], 1);
        assert_eq!(form["messages_received"], u64::MAX);
    }

    #[test]
    fn export_is_what_the_server_said_of_it() {
        let mut form = json!({
            "name": "disk \u{1f4be}",
            "canonical_name": null,
            "description": null,
            "size": 1_u64 << 40,
            "flags": 5,
            "block_size": null,
            "contexts": [],
            "read_only": false,
            "payload_limit": 1 << 20,
        });
        let mut export = export();
        round_trip(&export, &form);

        export.canonical_name = Some("disk0".into());
        export.description = Some("a \u{1b}[31m disk".into());
        export.block_size = BlockSize::new(1, 4096, u32::MAX).ok();
        export.read_only = true;
        let context = |id, name: &str| Context {
            id,
            name: name.into(),
        };
        export.contexts = vec![context(7, "base:allocation")];
        export.strays = vec![context(8, "a:b")];
        form["canonical_name"] = json!("disk0");
        form["description"] = json!("a \u{1b}[31m disk");
        let sizes = json!({ "minimum": 1, "preferred": 4096, "maximum": u32::MAX });
        form["block_size"] = sizes;
        form["read_only"] = json!(true);
        form["contexts"] = json!([{ "id": 7, "name": "base:allocation" }]);
        form["stray_contexts"] = json!([{ "id": 8, "name": "a:b" }]);
        round_trip(&export, &form);
    }

    #[test]
    fn what_no_server_may_say_is_refused() {
        for (minimum, maximum) in [(0, 4096), (3, 4096), (4096, 512)] {
            let form = json!({ "minimum": minimum, "preferred": 4096, "maximum": maximum });
            assert!(serde_json::from_value::<BlockSize>(form).is_err());
        }
        for (key, value) in [
            ("size", json!(1_u64 << 63)),
            ("size", json!(-1)),
            // Flags without `HAS_FLAGS`.
            ("flags", json!(4)),
            ("block_size", json!({ "minimum": 0 })),
        ] {
            let mut form = serde_json::to_value(export()).unwrap();
            form[key] = value;
            let result = serde_json::from_value::<Export>(form.clone());
            assert!(result.is_err(), "{form}");
        }
    }
}
