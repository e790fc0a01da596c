//! From values to Rust types.

use crate::diagnostic::{Diagnostic, Error, TraceItem};
use nivis_eval::{AttrsRef, ErrorKind, ListRef, Machine, Type, Value, ops};
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};
use std::fmt::Display;

/// Nesting beyond which conversion fails: it recurses on the host's stack.
pub const MAX_DEPTH: usize = 128;

impl de::Error for Error {
    fn custom<T: Display>(message: T) -> Error {
        Error::new(ErrorKind::Type, message.to_string())
    }
}

/// Converts a value, which is reachable from a root, evaluating what is asked for.
pub(crate) fn from_value<T: DeserializeOwned>(m: &mut Machine, value: Value) -> Result<T, Error> {
    T::deserialize(Deserializer {
        m,
        value,
        depth: 0,
        force: true,
    })
}

/// Converts a value that is evaluated completely; never runs the machine.
pub(crate) fn from_evaluated<T: DeserializeOwned>(
    m: &mut Machine,
    value: Value,
) -> Result<T, Error> {
    T::deserialize(Deserializer {
        m,
        value,
        depth: 0,
        force: false,
    })
}

/// Reads one value. What it holds is reachable from the root of the whole conversion: parts are found through
/// containers that are, and a part that is evaluated stays the value of its place there.
struct Deserializer<'m> {
    m: &'m mut Machine,
    value: Value,
    depth: usize,
    force: bool,
}

impl Deserializer<'_> {
    fn fail(&self, e: &nivis_eval::Error) -> Error {
        Diagnostic::resolve(self.m, e).into()
    }

    /// Evaluates the value.
    fn forced(&mut self) -> Result<Value, Error> {
        let value = self.value.resolved();
        self.value = if value.is_thunk() && self.force {
            self.m
                .force(value)
                .map_err(|e| Error::from(Diagnostic::resolve(self.m, &e)))?
        } else {
            value
        };
        Ok(self.value)
    }

    fn check_depth(&self) -> Result<(), Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::Type,
                format!("the value is nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        Ok(())
    }

    /// The text of a string, a path, or a set that can be coerced; `None` of anything else.
    fn text(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let value = self.forced()?;
        if let Some(s) = value.as_string() {
            return Ok(Some(s.bytes().to_vec()));
        }
        if let Some(path) = value.as_path() {
            return Ok(Some(nivis_eval::own::text(path.bytes()).to_vec()));
        }
        let known = self.m.known;
        let coercible = value
            .as_attrs()
            .is_some_and(|a| a.get(known.to_string).is_some() || a.get(known.out_path).is_some());
        if !coercible || !self.force {
            return Ok(None);
        }
        let text = self
            .m
            .run_native(ops::coerce_to_string, &[value, ops::Coerce::PATH.value()])
            .and_then(|s| self.m.want_string(s))
            .map_err(|e| self.fail(&e))?;
        Ok(Some(text.bytes().to_vec()))
    }

    fn visit_text<'de, V: Visitor<'de>>(visitor: V, text: Vec<u8>) -> Result<V::Value, Error> {
        match String::from_utf8(text) {
            Ok(text) => visitor.visit_string(text),
            Err(e) => visitor.visit_byte_buf(e.into_bytes()),
        }
    }

    fn visit_list<'de, V: Visitor<'de>>(
        self,
        list: ListRef,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        visitor.visit_seq(Elements {
            m: self.m,
            list,
            next: 0,
            depth: self.depth + 1,
            force: self.force,
        })
    }

    fn visit_attrs<'de, V: Visitor<'de>>(
        self,
        attrs: AttrsRef,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        visitor.visit_map(Entries {
            m: self.m,
            attrs,
            next: 0,
            depth: self.depth + 1,
            force: self.force,
        })
    }
}

impl<'de> de::Deserializer<'de> for Deserializer<'_> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        let value = self.forced()?;
        match value.type_of() {
            Type::Null => visitor.visit_unit(),
            Type::Bool => visitor.visit_bool(value == Value::TRUE),
            Type::Int => visitor.visit_i64(value.as_int().unwrap_or(0)),
            Type::Float => visitor.visit_f64(value.as_float().unwrap_or(0.0)),
            Type::List => match value.as_list() {
                Some(list) => self.visit_list(list, visitor),
                None => visitor.visit_unit(),
            },
            Type::String | Type::Path | Type::Attrs => match (self.text()?, value.as_attrs()) {
                (Some(text), _) => Deserializer::visit_text(visitor, text),
                (None, Some(attrs)) => self.visit_attrs(attrs, visitor),
                (None, None) => visitor.visit_unit(),
            },
            Type::Function | Type::External | Type::Thunk => {
                let kind = self.m.describe_type(value);
                Err(Error::new(
                    ErrorKind::Type,
                    format!("cannot convert {kind}"),
                ))
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        if self.forced()?.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    // A set that can be coerced to a string is still a set to whoever asks for one.
    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.forced()?.as_attrs() {
            Some(attrs) => self.visit_attrs(attrs, visitor),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_map(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.check_depth()?;
        let depth = self.depth + 1;
        visitor.visit_newtype_struct(Deserializer { depth, ..self })
    }

    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Error> {
        match self.text()? {
            Some(text) => visitor.visit_byte_buf(text),
            None => self.deserialize_any(visitor),
        }
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    /// A string is a variant without contents; a set with one attribute is a variant with contents.
    fn deserialize_enum<V: Visitor<'de>>(
        mut self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let value = self.forced()?;
        if let Some(s) = value.as_string() {
            return visitor.visit_enum(s.to_text().into_deserializer());
        }
        self.check_depth()?;
        let mut entries = value.as_attrs().into_iter().flat_map(AttrsRef::iter);
        match (entries.next(), entries.next()) {
            (Some((symbol, value, _)), None) => {
                drop(entries);
                let name = self.m.symbols.text(symbol);
                let contents = Deserializer {
                    value,
                    depth: self.depth + 1,
                    ..self
                };
                visitor.visit_enum(Variant { name, contents })
            }
            _ => Err(Error::new(
                ErrorKind::Type,
                format!(
                    "expected a string or a set with one attribute but found {}",
                    self.m.describe(value)
                ),
            )),
        }
    }

    /// Leaves the value unevaluated.
    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string unit unit_struct seq tuple
        tuple_struct identifier
    }
}

/// Says where in the value a conversion failed.
fn inside(e: Error, place: impl FnOnce() -> String) -> Error {
    let mut d = e.into_diagnostic();
    d.trace.push(TraceItem {
        message: place(),
        span: None,
        explicit: true,
    });
    d.into()
}

struct Elements<'m> {
    m: &'m mut Machine,
    list: ListRef,
    next: usize,
    depth: usize,
    force: bool,
}

impl<'de> de::SeqAccess<'de> for Elements<'_> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Error> {
        let Some(value) = self.list.get(self.next) else {
            return Ok(None);
        };
        let index = self.next;
        self.next += 1;
        seed.deserialize(Deserializer {
            m: self.m,
            value,
            depth: self.depth,
            force: self.force,
        })
        .map(Some)
        .map_err(|e| {
            inside(e, || {
                format!("while converting the element at index {index}")
            })
        })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.list.len().saturating_sub(self.next))
    }
}

/// The attributes of a set, by index: one that is evaluated meanwhile may be held by the set alone.
struct Entries<'m> {
    m: &'m mut Machine,
    attrs: AttrsRef,
    next: usize,
    depth: usize,
    force: bool,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let Some((name, ..)) = self.m.sorted_attr(self.attrs, self.next) else {
            return Ok(None);
        };
        seed.deserialize(self.m.symbols.text(name).into_deserializer())
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((name, value, _)) = self.m.sorted_attr(self.attrs, self.next) else {
            return Err(Error::new(ErrorKind::Other, "no attribute is left"));
        };
        self.next += 1;
        let result = seed.deserialize(Deserializer {
            m: self.m,
            value,
            depth: self.depth,
            force: self.force,
        });
        result.map_err(|e| {
            inside(e, || {
                format!(
                    "while converting the attribute '{}'",
                    self.m.symbols.text(name)
                )
            })
        })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.attrs.len().saturating_sub(self.next))
    }
}

struct Variant<'m> {
    name: String,
    contents: Deserializer<'m>,
}

impl<'de, 'm> de::EnumAccess<'de> for Variant<'m> {
    type Error = Error;
    type Variant = Contents<'m>;

    fn variant_seed<V: DeserializeSeed<'de>>(
        self,
        seed: V,
    ) -> Result<(V::Value, Contents<'m>), Error> {
        let name: de::value::StringDeserializer<Error> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, Contents(self.contents)))
    }
}

struct Contents<'m>(Deserializer<'m>);

impl<'de> de::VariantAccess<'de> for Contents<'_> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        serde::Deserialize::deserialize(self.0)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        de::Deserializer::deserialize_map(self.0, visitor)
    }
}
