//! The value word.
//!
//! A [`Value`] is one machine word: three tag bits and either a pointer to an object in the
//! evaluator's [heap](crate::heap) or the value itself. It is `Copy` and means something only to the
//! evaluator that made it. What the pointers point to, and every dereference, is in `heap`.

/// A value or a thunk, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Value(pub(crate) u64);

/// The type of a value, as `builtins.typeOf` tells them apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Type {
    /// Not evaluated yet.
    Thunk,
    /// `int`
    Int,
    /// `float`
    Float,
    /// `bool`
    Bool,
    /// `null`
    Null,
    /// `string`
    String,
    /// `path`
    Path,
    /// `set`
    Attrs,
    /// `list`
    List,
    /// `lambda`
    Function,
    /// A value of the embedding program.
    External,
}

impl Type {
    /// The name that `builtins.typeOf` returns.
    pub fn name(self) -> &'static str {
        match self {
            Type::Thunk => "thunk",
            Type::Int => "int",
            Type::Float => "float",
            Type::Bool => "bool",
            Type::Null => "null",
            Type::String => "string",
            Type::Path => "path",
            Type::Attrs => "set",
            Type::List => "list",
            Type::Function => "lambda",
            Type::External => "external",
        }
    }

    /// The name with its article, as error messages use it.
    pub fn with_article(self) -> &'static str {
        match self {
            Type::Thunk => "a thunk",
            Type::Int => "an integer",
            Type::Float => "a float",
            Type::Bool => "a Boolean",
            Type::Null => "null",
            Type::String => "a string",
            Type::Path => "a path",
            Type::Attrs => "a set",
            Type::List => "a list",
            Type::Function => "a function",
            Type::External => "an external value",
        }
    }
}

pub(crate) mod tag {
    pub const THUNK: u64 = 0;
    pub const INT: u64 = 1;
    pub const ATTRS: u64 = 2;
    pub const LIST: u64 = 3;
    pub const FUNCTION: u64 = 4;
    pub const STRING: u64 = 5;
    pub const BOXED: u64 = 6;
    pub const SIMPLE: u64 = 7;
    pub const MASK: u64 = 7;
}

impl Value {
    /// `null`
    pub const NULL: Value = Value(tag::SIMPLE);
    /// `false`
    pub const FALSE: Value = Value((1 << 3) | tag::SIMPLE);
    /// `true`
    pub const TRUE: Value = Value((2 << 3) | tag::SIMPLE);
    /// Marks memory that no live value may reach; only the stress mode writes it.
    pub(crate) const POISON: Value = Value((0xdead << 3) | tag::SIMPLE);
    /// An empty slot: never seen by a program.
    pub(crate) const EMPTY: Value = Value(0);

    /// A Boolean.
    #[inline(always)]
    pub fn bool(b: bool) -> Value {
        if b { Value::TRUE } else { Value::FALSE }
    }

    /// Whether an integer fits into the word.
    #[inline(always)]
    pub(crate) fn small_int(i: i64) -> Option<Value> {
        let shifted = i << 3;
        (shifted >> 3 == i).then_some(Value(shifted as u64 | tag::INT))
    }

    #[inline(always)]
    pub(crate) fn tag(self) -> u64 {
        self.0 & tag::MASK
    }

    /// Whether this is a thunk, evaluated or not.
    #[inline(always)]
    pub fn is_thunk(self) -> bool {
        self.tag() == tag::THUNK
    }
    /// Whether this is an attribute set.
    #[inline(always)]
    pub fn is_attrs(self) -> bool {
        self.tag() == tag::ATTRS
    }
    /// Whether this is a list.
    #[inline(always)]
    pub fn is_list(self) -> bool {
        self.tag() == tag::LIST
    }
    /// Whether this is a string.
    #[inline(always)]
    pub fn is_string(self) -> bool {
        self.tag() == tag::STRING
    }
    /// Whether this is a function (not a set with `__functor`).
    #[inline(always)]
    pub fn is_function(self) -> bool {
        self.tag() == tag::FUNCTION
    }
    /// Whether this is `null`.
    #[inline(always)]
    pub fn is_null(self) -> bool {
        self == Value::NULL
    }
    /// The Boolean, if it is one.
    #[inline(always)]
    pub fn as_bool(self) -> Option<bool> {
        if self == Value::TRUE {
            Some(true)
        } else if self == Value::FALSE {
            Some(false)
        } else {
            None
        }
    }
    #[inline(always)]
    pub(crate) fn addr(self) -> usize {
        (self.0 & !tag::MASK) as usize
    }
}

impl std::fmt::Debug for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Value::NULL => f.write_str("null"),
            Value::TRUE => f.write_str("true"),
            Value::FALSE => f.write_str("false"),
            Value::POISON => f.write_str("poison"),
            Value::EMPTY => f.write_str("empty"),
            v if v.tag() == tag::INT => write!(f, "{}", (v.0 as i64) >> 3),
            v => write!(f, "<{}@{:x}>", v.tag(), v.addr()),
        }
    }
}
