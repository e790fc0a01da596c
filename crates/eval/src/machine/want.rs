//! Values as native functions want them, and the errors when they are something else.

use super::Machine;
use crate::context::ContextId;
use crate::error::{Error, ErrorKind, Result};
use crate::heap::{AttrsRef, ListRef, StringRef};
use crate::position::SourceSpan;
use crate::symbol::Symbol;
use crate::value::{Type, Value};

impl Machine {
    /// The error for a value of the wrong type.
    #[cold]
    pub fn expected(&self, wanted: Type, found: Value) -> Error {
        Error::type_error(format!(
            "expected {} but found {}",
            wanted.with_article(),
            self.describe(found)
        ))
    }

    /// The same, with what the value was for.
    #[cold]
    pub(super) fn expected_for(&self, purpose: &str, wanted: Type, found: Value) -> Error {
        self.expected(wanted, found)
            .context(purpose, SourceSpan::default(), false)
    }

    /// The error for a missing attribute.
    #[cold]
    pub fn missing_attr(&self, attrs: AttrsRef, symbol: Symbol) -> Error {
        let names = attrs.names().map(|s| self.symbols.text(s));
        let similar = crate::suggest::similar(&self.symbols.text(symbol), names);
        Error::new(
            ErrorKind::MissingAttribute,
            format!("attribute '{}' missing", self.attr_text(symbol)),
        )
        .suggest(similar)
    }

    /// An attribute's name as messages show it: with quotes where the grammar wants them.
    pub fn attr_text(&self, symbol: Symbol) -> String {
        let mut name = Vec::new();
        crate::print::print_name(&mut name, self.symbols.name(symbol));
        String::from_utf8_lossy(&name).into_owned()
    }

    /// The integer, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_int(&self, v: Value) -> Result<i64> {
        v.as_int().ok_or_else(|| self.expected(Type::Int, v))
    }

    /// The Boolean, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_bool(&self, v: Value) -> Result<bool> {
        v.as_bool().ok_or_else(|| self.expected(Type::Bool, v))
    }

    /// The string, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_string(&self, v: Value) -> Result<StringRef> {
        v.as_string().ok_or_else(|| self.expected(Type::String, v))
    }

    /// The list, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_list(&self, v: Value) -> Result<ListRef> {
        v.as_list().ok_or_else(|| self.expected(Type::List, v))
    }

    /// The set, or the error that one was expected.
    ///
    /// # Errors
    /// [`ErrorKind::Type`].
    #[inline]
    pub fn want_attrs(&self, v: Value) -> Result<AttrsRef> {
        v.as_attrs().ok_or_else(|| self.expected(Type::Attrs, v))
    }

    /// A string without context.
    ///
    /// # Errors
    /// [`ErrorKind::Type`], or when the string has a context.
    pub fn want_plain_string(&self, v: Value) -> Result<StringRef> {
        let s = self.want_string(v)?;
        if s.context().is_empty() {
            Ok(s)
        } else {
            Err(self.no_context_allowed(s))
        }
    }

    /// A string value without context.
    pub fn string(&mut self, text: impl AsRef<[u8]>) -> Value {
        self.heap.string(text.as_ref(), ContextId::EMPTY)
    }

    /// The string value of a symbol's name.
    pub fn symbol_string(&mut self, symbol: Symbol) -> Value {
        self.symbols.string(&mut self.heap, symbol)
    }
}
