//! JSON, TOML and XML.

use crate::pure::json::{self, Event, Parser};
use crate::pure::toml::{self, Node, NodeId, Timestamps};
use crate::pure::{float, xml};
use crate::scratch;
use crate::strings::pure_error;
use crate::table::{frame, leaf};
use nivis_eval::context::ContextUnion;
use nivis_eval::heap::{AttrsRef, StringRef};
use nivis_eval::ops::{self, Coerce};
use nivis_eval::own;
use nivis_eval::{
    Activation, Builtin, Error, ErrorKind, Machine, PosId, Result, SourceSpan, Step, Symbol, Type,
    Value,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    frame(
        "toJSON",
        &["e"],
        0,
        to_json,
        "Returns `e` as JSON text. Sets become objects, but one with `__toString` or `outPath` becomes what that gives. Paths \
         are copied to the store. The context is that of everything in `e`. Functions are an error.",
    ),
    leaf(
        "fromJSON",
        &["s"],
        0b1,
        from_json,
        "Returns the value of the JSON text `s`. Of a name that an object has twice, the last value counts.",
    ),
    leaf(
        "fromTOML",
        &["s"],
        0b1,
        from_toml,
        "Returns the set that the TOML text `s` describes. Dates and times are an error, unless the feature \
         `parse-toml-timestamps` makes them sets with `_type = \"timestamp\"` and their text as `value`.",
    )
    .global(),
    frame(
        "toXML",
        &["e"],
        0,
        to_xml,
        "Returns `e` as an XML document in which every value is an element named after its type. Derivations are shown with \
         their paths, and with their attributes when they occur for the first time.",
    ),
];

// ---- writing JSON -----------------------------------------------------------------------------------

/// What is written so far.
#[derive(Default)]
struct Text {
    out: Vec<u8>,
    context: ContextUnion,
    /// Elements written since the machine looked at its limits.
    unseen: u32,
    /// What is wrong with the first string that cannot be written. It is reported when there is no other error.
    invalid: Option<Error>,
}

/// Elements that are written between two looks at limits and cancellation, which the machine takes when it evaluates something.
const UNSEEN: u32 = 4096;

/// The buffer of the last text that was finished: most texts are short, and there are many.
#[derive(Default)]
struct Spare(Vec<u8>);

/// Larger buffers are not kept.
const SPARE_UP_TO: usize = 1 << 16;

impl Text {
    fn finish(mut self, m: &mut Machine) -> Result<Value> {
        if let Some(error) = self.invalid {
            return Err(error);
        }
        m.check_string(self.out.len())?;
        let context = self.context.finish(&mut m.contexts);
        let text = m.heap.string(&self.out, context);
        if self.out.capacity() <= SPARE_UP_TO {
            self.out.clear();
            m.extension::<Spare>().0 = self.out;
        }
        Ok(text)
    }

    /// Appends a JSON string.
    fn quote(&mut self, text: &[u8]) {
        if let Err(error) = quote(text, &mut self.out) {
            self.invalid.get_or_insert(error);
        }
    }
}

/// How JSON is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JsonOptions {
    /// Whether everything is evaluated; what is not is an error otherwise.
    pub strict: bool,
    /// Whether paths are copied to the store, and shown where they are then; they stay as they are otherwise.
    pub copy_paths: bool,
}

impl JsonOptions {
    /// As a local for [`json_text`].
    pub fn value(self, m: &mut Machine) -> Value {
        flags(m, self.strict, self.copy_paths)
    }

    fn of(v: Value) -> JsonOptions {
        let bits = v.as_int().unwrap_or(0);
        JsonOptions {
            strict: bits & 1 != 0,
            copy_paths: bits & 2 != 0,
        }
    }
}

fn flags(m: &mut Machine, first: bool, second: bool) -> Value {
    m.heap.int(i64::from(first) | i64::from(second) << 1)
}

/// As `builtins.toJSON` writes.
pub(crate) const TO_JSON: JsonOptions = JsonOptions {
    strict: true,
    copy_paths: true,
};

fn to_json(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    m.truncate_locals(a, 1);
    let options = TO_JSON.value(m);
    m.push(options);
    Ok(Step::TailRun(json_text, 2))
}

/// Says in traces where in a value the writing of JSON was.
pub(crate) fn describe_json(m: &mut Machine, a: &Activation) -> Vec<(String, SourceSpan)> {
    ops::describe_parts(m, a, JSON_FIRST, "attribute")
}

/// The locals before the containers: value and options.
const JSON_FIRST: usize = 2;

const FORCED: u64 = 1;
/// What `__toString` returned is on the stack.
const CALLED: u64 = 2;
/// What that was converted to is on the stack.
const CONVERTED: u64 = 3;

/// Turns a value into JSON text, with the contexts of everything in it. Locals: the value and [`JsonOptions::value`].
///
/// # Errors
/// Functions, strings that are not UTF-8, nesting beyond `max-call-depth`, and what evaluating a part fails with.
pub fn json_text(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let mut text: Text = scratch::take(m, a);
    if a.state == 0 {
        text.out = std::mem::take(&mut m.extension::<Spare>().0);
    }
    let options = JsonOptions::of(m.local(a, 1));
    let step = json_step(m, a, options, &mut text)?;
    Ok(match step {
        Step::Done(_) => Step::Done(text.finish(m)?),
        step => {
            scratch::put(m, a, text);
            step
        }
    })
}

/// Locals after the two: the lists and sets around what is written now, each with the index of what comes next in it.
fn json_step(
    m: &mut Machine,
    a: &mut Activation,
    options: JsonOptions,
    text: &mut Text,
) -> Result<Step> {
    let mut next = match a.state {
        0 => Some(m.local(a, 0)),
        CALLED => {
            let v = m.pop();
            m.push(v);
            m.push(Coerce::PATH.value());
            a.state = CONVERTED;
            return Ok(Step::Run(ops::coerce_to_string, 2));
        }
        CONVERTED => {
            let v = m.pop();
            json_string(m, m.want_string(v)?, text)?;
            None
        }
        _ => Some(m.pop()),
    };
    loop {
        let Some(v) = next.take() else {
            let n = m.locals(a);
            if n < JSON_FIRST + 2 {
                return Ok(Step::Done(Value::NULL));
            }
            let container = m.local(a, n - 2);
            let index = m.local(a, n - 1).as_int().unwrap_or(0);
            if index == STAND_IN {
                m.truncate_locals(a, n - 2);
                continue;
            }
            let index = index as usize;
            let part = if let Some(list) = container.as_list() {
                list.get(index).map(|v| (None, v))
            } else if let Some(attrs) = container.as_attrs() {
                m.sorted_attr(attrs, index)
                    .map(|(symbol, v, _)| (Some(symbol), v))
            } else {
                None
            };
            match part {
                Some((symbol, part)) => {
                    if index > 0 {
                        text.out.push(b',');
                    }
                    if let Some(symbol) = symbol {
                        text.quote(m.symbols.name(symbol));
                        text.out.push(b':');
                    }
                    let following = m.heap.int(index as i64 + 1);
                    m.set_local(a, n - 1, following);
                    text.unseen += 1;
                    if text.unseen >= UNSEEN && options.strict {
                        text.unseen = 0;
                        m.check_string(text.out.len())?;
                        a.state = FORCED;
                        return Ok(Step::Force(part));
                    }
                    next = Some(part);
                }
                None => {
                    text.out.push(if container.is_list() { b']' } else { b'}' });
                    m.truncate_locals(a, n - 2);
                }
            }
            continue;
        };
        match v.type_of() {
            Type::Thunk if options.strict => {
                a.state = FORCED;
                return Ok(Step::Force(v));
            }
            Type::Null => text.out.extend_from_slice(b"null"),
            Type::Bool => {
                let word: &[u8] = if v == Value::TRUE { b"true" } else { b"false" };
                text.out.extend_from_slice(word);
            }
            Type::Int => json::write_int(v.as_int().unwrap_or(0), &mut text.out),
            Type::Float => json::write_float(v.as_float().unwrap_or(0.0), &mut text.out),
            Type::String => json_string(m, m.want_string(v)?, text)?,
            Type::Path => {
                let Some(path) = v.as_path() else { continue };
                let shown = if options.copy_paths {
                    ops::copy_to_store(m, path)?
                } else {
                    m.string(own::text(path.bytes()))
                };
                json_string(m, m.want_string(shown)?, text)?;
            }
            Type::List => {
                text.out.push(b'[');
                open(m, a, v, 0)?;
            }
            Type::Attrs => {
                let attrs = m.want_attrs(v)?;
                if let Some(f) = attrs.get(m.known.to_string) {
                    a.state = CALLED;
                    m.push(f);
                    m.push(v);
                    return Ok(Step::Call(1));
                }
                match attrs.get(m.known.out_path) {
                    Some(out) => {
                        open(m, a, v, STAND_IN)?;
                        next = Some(out);
                    }
                    None => {
                        text.out.push(b'{');
                        open(m, a, v, 0)?;
                    }
                }
            }
            Type::Function | Type::External | Type::Thunk => {
                return Err(Error::type_error(format!(
                    "cannot convert {} to JSON",
                    m.describe_type(v)
                )));
            }
        }
    }
}

fn too_deep() -> Error {
    Error::new(
        ErrorKind::CallDepth,
        "stack overflow; max-call-depth exceeded",
    )
}

/// Instead of an index: the set is written as what its `outPath` is, of which there is no more to come.
const STAND_IN: i64 = -1;

/// Goes into a list or set.
fn open(m: &mut Machine, a: &Activation, container: Value, index: i64) -> Result<()> {
    if m.locals(a) / 2 > m.settings.max_call_depth as usize {
        return Err(too_deep());
    }
    m.push(container);
    let index = m.heap.int(index);
    m.push(index);
    Ok(())
}

fn json_string(m: &mut Machine, s: StringRef, text: &mut Text) -> Result<()> {
    text.context.add(&mut m.contexts, s.context());
    m.check_string(text.out.len() + s.len())?;
    text.quote(s.bytes());
    Ok(())
}

/// Appends a JSON string.
pub(crate) fn quote(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    json::write_string(text, out).map_err(pure_error)
}

/// A JSON object in its normal form: without spaces, names sorted, of each name the last value.
pub(crate) fn normal_json_object(text: &[u8]) -> Result<Vec<u8>> {
    let refuse = |e: &str| Error::other(format!("cannot process __json attribute: {e}"));
    let mut parser = Parser::new(text);
    /// A list or object that is open.
    #[derive(Default)]
    struct Open {
        /// The texts of a list's values.
        values: Vec<Vec<u8>>,
        /// Those of an object's by name.
        entries: BTreeMap<Vec<u8>, Vec<u8>>,
        /// The name that the next value has.
        key: Vec<u8>,
        is_object: bool,
    }
    let mut open: Vec<Open> = Vec::new();
    let mut whole = None;
    while let Some(event) = parser.next_event().map_err(|e| refuse(e.message()))? {
        let mut out = Vec::new();
        match event {
            Event::Null => out.extend_from_slice(b"null"),
            Event::Bool(b) => out.extend_from_slice(if b { b"true" } else { b"false" }),
            Event::Int(i) => json::write_int(i, &mut out),
            Event::Float(f) => json::write_float(f, &mut out),
            Event::String(s) => quote(&s, &mut out)?,
            Event::Key(name) => {
                if let Some(object) = open.last_mut() {
                    object.key = name.into_owned();
                }
                continue;
            }
            Event::ListStart | Event::ObjectStart => {
                open.push(Open {
                    is_object: event == Event::ObjectStart,
                    ..Open::default()
                });
                continue;
            }
            Event::ListEnd => {
                let list = open.pop().unwrap_or_default();
                out.push(b'[');
                out.extend_from_slice(&list.values.join(&b','));
                out.push(b']');
            }
            Event::ObjectEnd => {
                let object = open.pop().unwrap_or_default();
                out.push(b'{');
                for (i, (name, value)) in object.entries.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    quote(name, &mut out)?;
                    out.push(b':');
                    out.extend_from_slice(value);
                }
                out.push(b'}');
                if open.is_empty() {
                    whole = Some(out);
                    continue;
                }
            }
        }
        if let Some(around) = open.last_mut() {
            if around.is_object {
                around.entries.insert(std::mem::take(&mut around.key), out);
            } else {
                around.values.push(out);
            }
        }
    }
    whole.ok_or_else(|| refuse("it is no object"))
}

// ---- reading JSON -----------------------------------------------------------------------------------

fn from_json(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let s = m.want_plain_string(args[0])?;
    let mut parser = Parser::new(s.bytes());
    let mut builder = Builder::default();
    let mut unseen = 0;
    while let Some(event) = parser.next_event().map_err(pure_error)? {
        unseen += match &event {
            Event::String(text) | Event::Key(text) => 1 + text.len() / 16,
            _ => 1,
        };
        if unseen >= UNSEEN as usize {
            unseen = 0;
            m.check_memory(builder.bytes())?;
        }
        builder.event(m, event);
    }
    Ok(builder.values.pop().unwrap_or(Value::NULL))
}

/// Makes values of events, without recursion.
#[derive(Default)]
struct Builder {
    /// The finished values of the lists and sets that are open.
    values: Vec<Value>,
    /// The names of the values in the sets that are open.
    keys: Vec<Symbol>,
    /// Of each open list and set, how many values and names there were before it.
    open: Vec<(usize, usize)>,
}

impl Builder {
    /// Bytes that it may take when it grows next.
    fn bytes(&self) -> usize {
        let values = self.values.capacity() * size_of::<Value>();
        let keys = self.keys.capacity() * size_of::<Symbol>();
        2 * (values + keys + self.open.capacity() * size_of::<(usize, usize)>())
    }

    fn event(&mut self, m: &mut Machine, event: Event<'_>) {
        let value = match event {
            Event::Null => Value::NULL,
            Event::Bool(b) => Value::bool(b),
            Event::Int(i) => m.heap.int(i),
            Event::Float(f) => m.heap.float(f),
            Event::String(text) => m.string(&text),
            Event::Key(name) => return self.keys.push(m.symbols.intern(&name)),
            Event::ListStart | Event::ObjectStart => {
                return self.open.push((self.values.len(), self.keys.len()));
            }
            Event::ListEnd => {
                let (at, _) = self.open.pop().unwrap_or_default();
                let list = m.heap.list(self.values.get(at..).unwrap_or_default());
                self.values.truncate(at);
                list
            }
            Event::ObjectEnd => {
                let (at, keys) = self.open.pop().unwrap_or_default();
                let names = self.keys.get(keys..).unwrap_or_default();
                let values = self.values.get(at..).unwrap_or_default();
                let set = m.attrs(names.iter().zip(values).map(|(k, v)| (*k, PosId::NONE, *v)));
                self.keys.truncate(keys);
                self.values.truncate(at);
                set
            }
        };
        self.values.push(value);
    }
}

// ---- TOML -------------------------------------------------------------------------------------------

fn from_toml(m: &mut Machine, args: &[Value]) -> Result<Value> {
    enum Task<'d> {
        Node(NodeId),
        Event(Event<'d>),
    }
    let s = m.want_plain_string(args[0])?;
    // The document is first made outside of the heap; a node takes at least two bytes of text.
    m.check_memory(s.len().saturating_mul(32))?;
    let timestamps = if m.settings.feature("parse-toml-timestamps") {
        Timestamps::Parse
    } else {
        Timestamps::Refuse
    };
    let document = toml::parse(s.bytes(), timestamps).map_err(pure_error)?;
    let mut builder = Builder::default();
    let mut todo = vec![Task::Node(document.root())];
    while let Some(task) = todo.pop() {
        let node = match task {
            Task::Event(event) => {
                builder.event(m, event);
                continue;
            }
            Task::Node(id) => document.get(id),
        };
        match node {
            None => builder.event(m, Event::Null),
            Some(Node::String(text)) => builder.event(m, Event::String(Cow::Borrowed(text))),
            Some(Node::Int(i)) => builder.event(m, Event::Int(*i)),
            Some(Node::Float(f)) => builder.event(m, Event::Float(*f)),
            Some(Node::Bool(b)) => builder.event(m, Event::Bool(*b)),
            Some(Node::Timestamp(text)) => {
                builder.event(m, Event::ObjectStart);
                builder.event(m, Event::Key(Cow::Borrowed(b"_type")));
                builder.event(m, Event::String(Cow::Borrowed(b"timestamp")));
                builder.event(m, Event::Key(Cow::Borrowed(b"value")));
                builder.event(m, Event::String(Cow::Borrowed(text.as_bytes())));
                builder.event(m, Event::ObjectEnd);
            }
            Some(Node::List(items)) => {
                builder.event(m, Event::ListStart);
                todo.push(Task::Event(Event::ListEnd));
                todo.extend(items.iter().rev().map(|id| Task::Node(*id)));
            }
            Some(Node::Table(entries)) => {
                builder.event(m, Event::ObjectStart);
                todo.push(Task::Event(Event::ObjectEnd));
                for (name, id) in entries.iter().rev() {
                    todo.push(Task::Node(*id));
                    todo.push(Task::Event(Event::Key(Cow::Borrowed(name))));
                }
            }
        }
    }
    Ok(builder.values.pop().unwrap_or(Value::NULL))
}

// ---- XML --------------------------------------------------------------------------------------------

/// A document that is being written.
#[derive(Default)]
struct Document {
    writer: xml::Writer,
    context: ContextUnion,
    /// Paths of the derivations written so far.
    seen: HashSet<Vec<u8>>,
    /// Elements written since the machine looked at its limits.
    unseen: u32,
}

/// What is written as XML, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XmlOptions {
    /// Whether everything is evaluated; what is not shows as `unevaluated` otherwise.
    pub strict: bool,
    /// Whether attributes and functions show where they are defined.
    pub locations: bool,
}

impl XmlOptions {
    /// As a local for [`xml_text`].
    pub fn value(self, m: &mut Machine) -> Value {
        flags(m, self.strict, self.locations)
    }

    fn of(v: Value) -> XmlOptions {
        let bits = v.as_int().unwrap_or(0);
        XmlOptions {
            strict: bits & 1 != 0,
            locations: bits & 2 != 0,
        }
    }
}

fn to_xml(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let options = XmlOptions {
        strict: true,
        locations: false,
    }
    .value(m);
    m.truncate_locals(a, 1);
    m.push(options);
    Ok(Step::TailRun(xml_text, 2))
}

/// Turns a value into an XML document, with the contexts of everything in it. Locals: the value and [`XmlOptions::value`].
///
/// # Errors
/// Nesting beyond `max-call-depth`, and what evaluating a part fails with.
pub fn xml_text(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let mut document: Document = scratch::take(m, a);
    let options = XmlOptions::of(m.local(a, 1));
    let step = xml_step(m, a, options, &mut document)?;
    Ok(match step {
        Step::Done(_) => {
            let text = document.writer.finish();
            m.check_string(text.len())?;
            let context = document.context.finish(&mut m.contexts);
            Step::Done(m.heap.string(&text, context))
        }
        step => {
            scratch::put(m, a, document);
            step
        }
    })
}

/// A value that is about to be written.
const VALUE: u64 = 1;
/// A set, one of whose attributes had to be evaluated; it is to be looked at again.
const AGAIN: u64 = 2;

/// Locals after the two: the lists and sets around what is written now, each with the index of what comes next in it.
fn xml_step(
    m: &mut Machine,
    a: &mut Activation,
    options: XmlOptions,
    document: &mut Document,
) -> Result<Step> {
    let mut next = match a.state {
        0 => {
            document.writer.open("expr", &[]);
            Some(m.local(a, 0))
        }
        VALUE => Some(m.pop()),
        _ => {
            m.pop();
            Some(m.pop())
        }
    };
    loop {
        let Some(v) = next.take() else {
            let n = m.locals(a);
            if n < 4 {
                return Ok(Step::Done(Value::NULL));
            }
            let container = m.local(a, n - 2);
            let index = m.local(a, n - 1).as_int().unwrap_or(0);
            let following = m.heap.int(index + 1);
            m.set_local(a, n - 1, following);
            if let Some(list) = container.as_list() {
                next = list.get(index as usize);
            } else if let Some(attrs) = container.as_attrs() {
                if index > 0 {
                    document.writer.close();
                }
                if let Some((symbol, v, pos)) = m.sorted_attr(attrs, index as usize) {
                    open_attr(m, symbol, pos, options, document);
                    next = Some(v);
                }
            }
            if next.is_none() {
                document.writer.close();
                m.truncate_locals(a, n - 2);
            }
            document.unseen += 1;
            if document.unseen >= UNSEEN
                && options.strict
                && let Some(part) = next
            {
                document.unseen = 0;
                m.check_string(document.writer.len())?;
                a.state = VALUE;
                return Ok(Step::Force(part));
            }
            continue;
        };
        if v.is_thunk() && options.strict {
            a.state = VALUE;
            return Ok(Step::Force(v));
        }
        let writer = &mut document.writer;
        match v.type_of() {
            Type::Thunk => writer.empty("unevaluated", &[]),
            Type::Null => writer.empty("null", &[]),
            Type::Bool => {
                let word: &[u8] = if v == Value::TRUE { b"true" } else { b"false" };
                writer.empty("bool", &[("value", word)]);
            }
            Type::Int => {
                let text = v.as_int().unwrap_or(0).to_string();
                writer.empty("int", &[("value", text.as_bytes())]);
            }
            Type::Float => {
                let text = float::print(v.as_float().unwrap_or(0.0));
                writer.empty("float", &[("value", text.as_bytes())]);
            }
            Type::String => {
                let s = m.want_string(v)?;
                document.context.add(&mut m.contexts, s.context());
                if s.len() > 1 << 12 {
                    m.check_string(writer.len().saturating_add(s.len()))?;
                }
                writer.empty("string", &[("value", s.bytes())]);
            }
            Type::Path => {
                let Some(path) = v.as_path() else { continue };
                writer.empty("path", &[("value", &own::shown(path.bytes()))]);
            }
            Type::External => writer.empty("unevaluated", &[]),
            Type::Function => function(m, v, options, document),
            Type::List => {
                writer.open("list", &[]);
                open(m, a, v, 0)?;
            }
            Type::Attrs => {
                let attrs = m.want_attrs(v)?;
                if let Some(thunk) = derivation_thunk(m, attrs, options) {
                    a.state = AGAIN;
                    m.push(v);
                    return Ok(Step::Force(thunk));
                }
                if ops::is_derivation(m, attrs) != Ok(true) {
                    document.writer.open("attrs", &[]);
                    open(m, a, v, 0)?;
                    continue;
                }
                let path = |symbol: Symbol| attrs.get(symbol).and_then(Value::as_string);
                let (drv, out) = (path(m.known.drv_path), path(m.known.out_path));
                let mut shown: Vec<(&str, &[u8])> = Vec::new();
                shown.extend(drv.as_ref().map(|s| ("drvPath", s.bytes())));
                shown.extend(out.as_ref().map(|s| ("outPath", s.bytes())));
                document.writer.open("derivation", &shown);
                let drv = drv.as_ref().map_or(&b""[..], StringRef::bytes);
                if !drv.is_empty() && document.seen.insert(drv.to_vec()) {
                    open(m, a, v, 0)?;
                } else {
                    document.writer.empty("repeated", &[]);
                    document.writer.close();
                }
            }
        }
    }
}

/// What has to be evaluated before a set can be written: whether it is a derivation decides about the rest.
fn derivation_thunk(m: &Machine, attrs: AttrsRef, options: XmlOptions) -> Option<Value> {
    match ops::is_derivation(m, attrs) {
        Err(thunk) => return Some(thunk),
        Ok(false) => return None,
        Ok(true) => {}
    }
    let unevaluated = |symbol: Symbol| attrs.get(symbol).filter(|v| v.is_thunk() && options.strict);
    unevaluated(m.known.drv_path).or_else(|| unevaluated(m.known.out_path))
}

fn open_attr(
    m: &mut Machine,
    symbol: Symbol,
    pos: PosId,
    options: XmlOptions,
    document: &mut Document,
) {
    let place = place(m, pos, options);
    let name = m.symbols.name(symbol);
    let mut shown: Vec<(&str, &[u8])> = Vec::with_capacity(4);
    if let Some((path, line, column)) = &place {
        shown.push(("column", column.as_bytes()));
        shown.push(("line", line.as_bytes()));
        shown.push(("name", name));
        shown.extend(path.as_ref().map(|p| ("path", p.as_slice())));
    } else {
        shown.push(("name", name));
    }
    document.writer.open("attr", &shown);
}

/// File, line and column of a position, when these are wanted.
fn place(
    m: &mut Machine,
    pos: PosId,
    options: XmlOptions,
) -> Option<(Option<Vec<u8>>, String, String)> {
    if !options.locations {
        return None;
    }
    let (source, offset) = m.sources.resolve(pos)?;
    let (line, column) = m
        .sources
        .line_column(source, offset, |p| m.host.read_file(p).ok())?;
    let path = source
        .origin
        .path()
        .map(|p| p.as_os_str().as_encoded_bytes().to_vec());
    Some((path, line.to_string(), column.to_string()))
}

fn function(m: &mut Machine, v: Value, options: XmlOptions, document: &mut Document) {
    let Some(signature) = v.as_function().and_then(|f| m.signature(f)) else {
        document.writer.empty("unevaluated", &[]);
        return;
    };
    let place = place(m, signature.pos, options);
    let mut shown: Vec<(&str, &[u8])> = Vec::new();
    if let Some((path, line, column)) = &place {
        shown.push(("column", column.as_bytes()));
        shown.push(("line", line.as_bytes()));
        shown.extend(path.as_ref().map(|p| ("path", p.as_slice())));
    }
    let writer = &mut document.writer;
    writer.open("function", &shown);
    let arg = signature.arg.map(|arg| m.symbols.name(arg));
    match &signature.pattern {
        None => writer.empty("varpat", &[("name", arg.unwrap_or_default())]),
        Some(pattern) => {
            let mut shown: Vec<(&str, &[u8])> = Vec::new();
            if pattern.ellipsis {
                shown.push(("ellipsis", b"1"));
            }
            shown.extend(arg.map(|arg| ("name", arg)));
            writer.open("attrspat", &shown);
            for formal in &pattern.formals {
                writer.empty("attr", &[("name", m.symbols.name(formal.name))]);
            }
            writer.close();
        }
    }
    writer.close();
}
