//! From Rust values to values.

use crate::de::MAX_DEPTH;
use crate::diagnostic::{Diagnostic, Error};
use nivis_eval::{ErrorKind, Machine, PosId, Symbol, Value};
use serde::ser::{self, Serialize};
use std::fmt::Display;

impl ser::Error for Error {
    fn custom<T: Display>(message: T) -> Error {
        Error::new(ErrorKind::Type, message.to_string())
    }
}

/// Builds a value. Nothing is evaluated on the way, so that parts need no roots until they are in it.
pub(crate) fn to_value<T: Serialize + ?Sized>(m: &mut Machine, value: &T) -> Result<Value, Error> {
    value.serialize(Serializer { m, depth: 0 })
}

struct Serializer<'m> {
    m: &'m mut Machine,
    depth: usize,
}

impl<'m> Serializer<'m> {
    fn deeper(self) -> Result<Serializer<'m>, Error> {
        if self.depth >= MAX_DEPTH {
            return Err(Error::new(
                ErrorKind::Type,
                format!("the value is nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        Ok(Serializer {
            m: self.m,
            depth: self.depth + 1,
        })
    }

    fn bytes(self, bytes: &[u8]) -> Result<Value, Error> {
        self.m
            .check_memory(bytes.len())
            .map_err(|e| Error::from(Diagnostic::resolve(self.m, &e)))?;
        Ok(self.m.string(bytes))
    }

    fn list(self, len: Option<usize>) -> Result<List<'m>, Error> {
        // A length is only a hint, which a type may get wrong.
        let items = Vec::with_capacity(len.unwrap_or(0).min(4096));
        Ok(List {
            to: self.deeper()?,
            items,
            variant: None,
        })
    }

    fn set(self) -> Result<Set<'m>, Error> {
        Ok(Set {
            to: self.deeper()?,
            entries: Vec::new(),
            key: None,
            variant: None,
        })
    }

    fn single(self, name: &str, value: Value) -> Value {
        let symbol = self.m.symbols.intern(name.as_bytes());
        self.m.attrs([(symbol, PosId::NONE, value)])
    }
}

fn int_out_of_range(n: impl Display) -> Error {
    Error::new(
        ErrorKind::Type,
        format!("the integer {n} does not fit into 64 bits with a sign"),
    )
}

impl<'m> ser::Serializer for Serializer<'m> {
    type Ok = Value;
    type Error = Error;
    type SerializeSeq = List<'m>;
    type SerializeTuple = List<'m>;
    type SerializeTupleStruct = List<'m>;
    type SerializeTupleVariant = List<'m>;
    type SerializeMap = Set<'m>;
    type SerializeStruct = Set<'m>;
    type SerializeStructVariant = Set<'m>;

    fn serialize_bool(self, v: bool) -> Result<Value, Error> {
        Ok(Value::bool(v))
    }
    fn serialize_i8(self, v: i8) -> Result<Value, Error> {
        self.serialize_i64(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<Value, Error> {
        self.serialize_i64(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<Value, Error> {
        self.serialize_i64(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<Value, Error> {
        Ok(self.m.heap.int(v))
    }
    fn serialize_i128(self, v: i128) -> Result<Value, Error> {
        self.serialize_i64(v.try_into().map_err(|_| int_out_of_range(v))?)
    }
    fn serialize_u8(self, v: u8) -> Result<Value, Error> {
        self.serialize_i64(v.into())
    }
    fn serialize_u16(self, v: u16) -> Result<Value, Error> {
        self.serialize_i64(v.into())
    }
    fn serialize_u32(self, v: u32) -> Result<Value, Error> {
        self.serialize_i64(v.into())
    }
    fn serialize_u64(self, v: u64) -> Result<Value, Error> {
        self.serialize_i64(v.try_into().map_err(|_| int_out_of_range(v))?)
    }
    fn serialize_u128(self, v: u128) -> Result<Value, Error> {
        self.serialize_i64(v.try_into().map_err(|_| int_out_of_range(v))?)
    }
    fn serialize_f32(self, v: f32) -> Result<Value, Error> {
        self.serialize_f64(v.into())
    }
    fn serialize_f64(self, v: f64) -> Result<Value, Error> {
        Ok(self.m.heap.float(v))
    }
    fn serialize_char(self, v: char) -> Result<Value, Error> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, v: &str) -> Result<Value, Error> {
        self.bytes(v.as_bytes())
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<Value, Error> {
        self.bytes(v)
    }
    fn serialize_none(self) -> Result<Value, Error> {
        Ok(Value::NULL)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Value, Error> {
        Ok(Value::NULL)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, Error> {
        Ok(Value::NULL)
    }
    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
    ) -> Result<Value, Error> {
        self.serialize_str(name)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        value.serialize(self.deeper()?)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Value, Error> {
        let to = self.deeper()?;
        let value = value.serialize(Serializer {
            m: to.m,
            depth: to.depth,
        })?;
        Ok(to.single(name, value))
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<List<'m>, Error> {
        self.list(len)
    }
    fn serialize_tuple(self, len: usize) -> Result<List<'m>, Error> {
        self.list(Some(len))
    }
    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<List<'m>, Error> {
        self.list(Some(len))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        len: usize,
    ) -> Result<List<'m>, Error> {
        let mut list = self.list(Some(len))?;
        list.variant = Some(name);
        Ok(list)
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Set<'m>, Error> {
        self.set()
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Set<'m>, Error> {
        self.set()
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Set<'m>, Error> {
        let mut set = self.set()?;
        set.variant = Some(name);
        Ok(set)
    }
}

struct List<'m> {
    to: Serializer<'m>,
    items: Vec<Value>,
    variant: Option<&'static str>,
}

impl List<'_> {
    fn add<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let value = value.serialize(Serializer {
            m: self.to.m,
            depth: self.to.depth,
        })?;
        self.items.push(value);
        Ok(())
    }

    fn finish(self) -> Value {
        let list = self.to.m.heap.list(&self.items);
        match self.variant {
            Some(name) => self.to.single(name, list),
            None => list,
        }
    }
}

macro_rules! list {
    ($trait:ident, $method:ident) => {
        impl ser::$trait for List<'_> {
            type Ok = Value;
            type Error = Error;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.add(value)
            }
            fn end(self) -> Result<Value, Error> {
                Ok(self.finish())
            }
        }
    };
}

list!(SerializeSeq, serialize_element);
list!(SerializeTuple, serialize_element);
list!(SerializeTupleStruct, serialize_field);
list!(SerializeTupleVariant, serialize_field);

struct Set<'m> {
    to: Serializer<'m>,
    entries: Vec<(Symbol, PosId, Value)>,
    key: Option<Symbol>,
    variant: Option<&'static str>,
}

impl Set<'_> {
    fn add<T: Serialize + ?Sized>(&mut self, name: Symbol, value: &T) -> Result<(), Error> {
        let value = value.serialize(Serializer {
            m: self.to.m,
            depth: self.to.depth,
        })?;
        self.entries.push((name, PosId::NONE, value));
        Ok(())
    }

    fn finish(self) -> Value {
        let set = self.to.m.attrs(self.entries);
        match self.variant {
            Some(name) => self.to.single(name, set),
            None => set,
        }
    }
}

impl ser::SerializeMap for Set<'_> {
    type Ok = Value;
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        let key = key.serialize(Serializer {
            m: self.to.m,
            depth: self.to.depth,
        })?;
        let name = match (key.as_string(), key.as_int()) {
            (Some(s), _) => s.bytes().to_vec(),
            (None, Some(i)) => i.to_string().into_bytes(),
            (None, None) => {
                let kind = self.to.m.describe_type(key);
                return Err(Error::new(
                    ErrorKind::Type,
                    format!("{kind} cannot be an attribute's name"),
                ));
            }
        };
        self.key = Some(self.to.m.symbols.intern(&name));
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        match self.key.take() {
            Some(key) => self.add(key, value),
            None => Err(Error::new(ErrorKind::Other, "a value without a key")),
        }
    }
    fn end(self) -> Result<Value, Error> {
        Ok(self.finish())
    }
}

macro_rules! set {
    ($trait:ident) => {
        impl ser::$trait for Set<'_> {
            type Ok = Value;
            type Error = Error;
            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Error> {
                let name = self.to.m.symbols.intern(name.as_bytes());
                self.add(name, value)
            }
            fn end(self) -> Result<Value, Error> {
                Ok(self.finish())
            }
        }
    };
}

set!(SerializeStruct);
set!(SerializeStructVariant);
