//! Where an app listens, as it is written.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use super::Umask;
use crate::{file::At, listen::DoorProtocol, size::Span};

/// Addresses: one, or a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenList(pub Vec<At<ListenSpec>>);

/// One address: a text, or its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of `address`, `name` and `mode`")]
pub struct ListenSpec {
    /// `3000`, `127.0.0.1:80`, `[::1]:80`, `udp:53`, `udp:127.0.0.1:53`, `unix:/run/shop.sock`.
    pub address: String,
    /// Its name in `LISTEN_FDNAMES`. Default: from the address, such as `tcp-3000`.
    pub name: Option<String>,
    /// Mode of a unix socket's file, octal. Default: 0660.
    pub mode: Option<Umask>,
}

struct OneAddress(ListenSpec);

impl<'de> Deserialize<'de> for OneAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressVisitor;

        impl<'de> Visitor<'de> for AddressVisitor {
            type Value = OneAddress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, an address such as `127.0.0.1:80`, `udp:53`, `unix:/path`, or `{address, name, mode}`")
            }
            fn visit_str<E>(self, text: &str) -> Result<OneAddress, E> {
                Ok(OneAddress(ListenSpec {
                    address: text.to_owned(),
                    ..ListenSpec::default()
                }))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<OneAddress, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneAddress, A::Error> {
                ListenSpec::deserialize(MapAccessDeserializer::new(map)).map(OneAddress)
            }
        }

        deserializer.deserialize_any(AddressVisitor)
    }
}

impl<'de> Deserialize<'de> for ListenList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor;

        impl<'de> Visitor<'de> for ListVisitor {
            type Value = ListenList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address to listen on, or a list of them")
            }
            fn visit_str<E>(self, text: &str) -> Result<ListenList, E> {
                Ok(ListenList(vec![At::from(ListenSpec {
                    address: text.to_owned(),
                    ..ListenSpec::default()
                })]))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<ListenList, E> {
                self.visit_str(&number.to_string())
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<ListenList, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = items.next_element::<At<OneAddress>>()? {
                    list.push(At {
                        value: one.value.0,
                        position: one.position,
                    });
                }
                Ok(ListenList(list))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListenList, A::Error> {
                ListenSpec::deserialize(MapAccessDeserializer::new(map))
                    .map(|spec| ListenList(vec![At::from(spec)]))
            }
        }

        deserializer.deserialize_any(ListVisitor)
    }
}

impl JsonSchema for ListenList {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListenList".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let parts = generator.subschema_for::<ListenSpec>();
        let one = json_schema!({"anyOf": [{"type": ["string", "integer"]}, parts]});
        json_schema!({"anyOf": [one, {"type": "array", "items": one}]})
    }
}

/// A front door: a small proxy that holds the public address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map with `listen`")]
pub struct DoorSpec {
    /// Public addresses.
    pub listen: ListenList,
    /// `http` (requests are spread one by one) or `tcp` (connections are). Default: http.
    pub protocol: Option<DoorProtocol>,
    /// How long a replaced instance may take to end what it has in hand. Default: 15s.
    pub drain: Option<Span>,
    /// Certificate and key: the door speaks TLS then.
    pub tls: Option<TlsSpec>,
}

/// Files of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a map of `cert` and `key`")]
pub struct TlsSpec {
    /// Certificate chain in PEM, relative to `cwd`.
    pub cert: String,
    /// Private key in PEM, relative to `cwd`.
    pub key: String,
}
