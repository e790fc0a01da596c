//! Derivations: from the attributes of `derivation` to the path of a `.drv` file.
//!
//! What [`derivationStrict`](TABLE) makes is remembered per evaluator in [`Derivations`]: the hash modulo of each derivation and what
//! its `.drv` file refers to, which is all that derivations depending on it need. The files themselves go to
//! [`nivis_eval::Host::write_store_text`], if the host wants them.

use crate::args::{Want, arguments};
use crate::contexts::only_element;
use crate::data;
use crate::hashing::{parse_hash, require_feature, store_error};
use crate::table::{frame, leaf};
use nivis_eval::context::{ContextElement, ContextId, Contexts};
use nivis_eval::heap::{AttrsRef, StringRef};
use nivis_eval::machine::bytes_path;
use nivis_eval::native::Body;
use nivis_eval::ops::{self, Coerce};
use nivis_eval::{
    Activation, Builtin, Error, ErrorKind, Host, Machine, Note, Origin, PosId, Result, SourceSpan,
    Step, Symbol, Value,
};
use nivis_store::derivation::OutputName;
use nivis_store::{
    ContentAddress, ContentAddressMethod, Derivation, DerivationOutput, DerivationParts,
    DownstreamPlaceholder, DrvHash, DrvHashes, Hash, HashAlgorithm, InputNames, InputOutputs,
    StoreDir, StorePath, hash_placeholder,
};
use rustc_hash::FxHashMap;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[
    frame(
        "derivationStrict",
        &["attrs"],
        0b1,
        derivation_strict,
        "Makes a derivation of a set of attributes, all of which are evaluated and converted to strings, and returns a set \
         with its `drvPath` and the path of each output. `derivation` is the function for programs to use.",
    )
    .global(),
    leaf(
        "placeholder",
        &["output"],
        0b1,
        placeholder,
        "Returns a string that stands for the path of the derivation's own output `output`. It is replaced by the path \
         when the derivation is built.",
    )
    .global(),
    frame(
        "outputOf",
        &["drv", "output"],
        0b1,
        output_of,
        "Returns the path of an output of the derivation that the string `drv` refers to, or a placeholder when the path is \
         not known before that derivation is built. Needs the feature `dynamic-derivations`.",
    ),
];

// ---- what is known of derivations -------------------------------------------------------------------

/// The derivations of one evaluator.
#[derive(Default)]
pub(crate) struct Derivations {
    store: Option<StoreDir>,
    known: Vec<Known>,
    /// Numbers of known derivations by the path of the `.drv` file.
    numbers: FxHashMap<StorePath, u32>,
    /// What texts in the store (`builtins.toFile`) refer to.
    texts: FxHashMap<StorePath, Box<[StorePath]>>,
    /// Context elements as inputs, by their number.
    inputs: Vec<Option<Input>>,
}

struct Known {
    hash: DrvHash,
    references: References,
    /// The outputs, with their paths where these are known.
    outputs: Box<[(OutputName, Option<StorePath>)]>,
}

/// What a `.drv` file refers to.
enum References {
    /// What these elements of contexts name.
    Elements(Box<[u32]>),
    Paths(Box<[StorePath]>),
}

enum Input {
    Source(StorePath),
    Deep(StorePath),
    /// An output of a derivation, which has a number when it is known.
    Output {
        drv: StorePath,
        number: Option<u32>,
        output: OutputName,
    },
    /// With dynamic derivations: an output of an output, at the end of a chain.
    Dynamic(StorePath, Vec<OutputName>, OutputName),
}

impl Input {
    fn path(&self) -> &StorePath {
        match self {
            Input::Source(path)
            | Input::Deep(path)
            | Input::Output { drv: path, .. }
            | Input::Dynamic(path, ..) => path,
        }
    }
}

/// What a derivation takes from contexts.
enum Inputs {
    /// Sources and outputs, by the numbers of their elements.
    Elements(Vec<u32>),
    /// These and others.
    Sets(BTreeSet<StorePath>, BTreeMap<StorePath, InputOutputs>),
}

/// The store folder of an evaluation.
pub(crate) fn store_dir(m: &mut Machine) -> Result<StoreDir> {
    if let Some(store) = &m.extension::<Derivations>().store {
        return Ok(store.clone());
    }
    let store = StoreDir::new(&m.settings.store_dir).map_err(store_error)?;
    m.extension::<Derivations>().store = Some(store.clone());
    Ok(store)
}

/// Finds the hashes of inputs, and catches that of the new derivation.
struct Lookup<'k> {
    derivations: &'k Derivations,
    /// The numbers of the inputs, if they are at hand.
    inputs: &'k [u32],
    new: Option<DrvHash>,
}

impl DrvHashes for Lookup<'_> {
    fn hash_modulo(&mut self, path: &StorePath) -> nivis_store::Result<DrvHash> {
        let known = self.derivations.known(path);
        known.map(|k| k.hash.clone()).ok_or_else(|| {
            nivis_store::Error::new(
                nivis_store::ErrorKind::UnknownDerivation,
                format!("derivation '{path}' is not known"),
            )
        })
    }

    fn hash_modulo_of_input(
        &mut self,
        index: usize,
        path: &StorePath,
    ) -> nivis_store::Result<DrvHash> {
        let number = self.inputs.get(index);
        match number.and_then(|n| self.derivations.known.get(*n as usize)) {
            Some(known) => Ok(known.hash.clone()),
            None => self.hash_modulo(path),
        }
    }

    fn record(&mut self, _: &StorePath, hash: &DrvHash) {
        self.new = Some(hash.clone());
    }
}

impl Derivations {
    fn known(&self, path: &StorePath) -> Option<&Known> {
        let number = self.numbers.get(path)?;
        self.known.get(*number as usize)
    }

    /// Remembers a derivation, unless it is known already.
    fn add(&mut self, path: StorePath, known: impl FnOnce() -> Known) {
        let number = self.known.len() as u32;
        if let Entry::Vacant(entry) = self.numbers.entry(path) {
            entry.insert(number);
            self.known.push(known());
        }
    }

    /// Reads a derivation that this evaluation has not made, and those it depends on, from the store.
    fn learn(&mut self, host: &dyn Host, store: &StoreDir, path: &StorePath) -> Result<()> {
        let mut todo: Vec<(StorePath, Option<Derivation>)> = vec![(path.clone(), None)];
        while let Some((path, drv)) = todo.pop() {
            if self.numbers.contains_key(&path) {
                continue;
            }
            if let Some(drv) = drv {
                let mut lookup = Lookup {
                    derivations: self,
                    inputs: &[],
                    new: None,
                };
                let hash = drv.hash_modulo(store, &mut lookup).map_err(store_error)?;
                let outputs = drv.output_paths(store).map_err(store_error)?;
                let references = drv.references().into_iter().cloned().collect();
                self.add(path, || Known {
                    hash,
                    references: References::Paths(references),
                    outputs: outputs.into_iter().collect(),
                });
                continue;
            }
            let printed = store.print(&path);
            let invalid =
                |_| Error::new(ErrorKind::Store, format!("path '{printed}' is not valid"));
            let text = host
                .read_file(bytes_path(printed.as_bytes()))
                .map_err(invalid)?;
            let name = path.derivation_name().map_err(store_error)?;
            let drv = Derivation::parse_aterm(store, name, &text).map_err(store_error)?;
            let inputs: Vec<StorePath> = drv.input_drvs.keys().cloned().collect();
            if inputs.contains(&path) || todo.iter().any(|(p, d)| d.is_some() && *p == path) {
                return Err(Error::new(
                    ErrorKind::Store,
                    format!("derivation '{printed}' depends on itself"),
                ));
            }
            todo.push((path, Some(drv)));
            todo.extend(inputs.into_iter().map(|p| (p, None)));
        }
        Ok(())
    }

    /// Everything that a `.drv` file refers to, directly or not.
    fn closure(
        &mut self,
        host: &dyn Host,
        store: &StoreDir,
        path: &StorePath,
    ) -> Result<BTreeSet<StorePath>> {
        let mut seen = BTreeSet::new();
        let mut todo = vec![path.clone()];
        while let Some(path) = todo.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            if path.is_derivation() {
                self.learn(host, store, &path)?;
                match self.known(&path).map(|known| &known.references) {
                    Some(References::Paths(paths)) => todo.extend(paths.iter().cloned()),
                    Some(References::Elements(ids)) => {
                        let inputs = ids.iter().filter_map(|id| self.inputs.get(*id as usize));
                        todo.extend(inputs.flatten().map(|input| input.path().clone()));
                    }
                    None => {}
                }
            } else if let Some(references) = self.texts.get(&path) {
                todo.extend(references.iter().cloned());
            } else {
                let references = host.references(store.print(&path).as_bytes());
                todo.extend(references.iter().filter_map(|r| store.parse(r).ok()));
            }
        }
        Ok(seen)
    }

    /// A context element as input. Derivations that this evaluation has not made are read.
    fn input(
        &mut self,
        contexts: &Contexts,
        host: &dyn Host,
        store: &StoreDir,
        id: u32,
    ) -> Result<&Input> {
        let none = || Error::other("a context element has no number");
        let index = id as usize;
        if index >= self.inputs.len() {
            self.inputs.resize_with(index + 1, || None);
        }
        if !matches!(self.inputs.get(index), Some(Some(_))) {
            let element = contexts.get(id).ok_or_else(none)?;
            let mut input = input_of(element, store)?;
            match &mut input {
                Input::Output { drv, number, .. } => {
                    self.learn(host, store, drv)?;
                    *number = self.numbers.get(drv).copied();
                }
                Input::Dynamic(drv, ..) => self.learn(host, store, drv)?,
                _ => {}
            }
            if let Some(slot) = self.inputs.get_mut(index) {
                *slot = Some(input);
            }
        }
        self.inputs
            .get(index)
            .and_then(|i| i.as_ref())
            .ok_or_else(none)
    }

    /// What contexts refer to, as inputs.
    fn inputs(
        &mut self,
        contexts: &Contexts,
        host: &dyn Host,
        store: &StoreDir,
        used: &[ContextId],
    ) -> Result<Inputs> {
        let mut ids: Vec<u32> = match used {
            [context] => contexts.ids(*context).to_vec(),
            _ => used
                .iter()
                .flat_map(|c| contexts.ids(*c))
                .copied()
                .collect(),
        };
        if used.len() > 1 {
            ids.sort_unstable();
            ids.dedup();
        }
        let mut simple = true;
        for id in &ids {
            let input = self.input(contexts, host, store, *id)?;
            simple &= matches!(
                input,
                Input::Source(_)
                    | Input::Output {
                        number: Some(_),
                        ..
                    }
            );
        }
        if simple {
            return Ok(Inputs::Elements(ids));
        }
        let mut sources = BTreeSet::new();
        let mut drvs: BTreeMap<StorePath, InputOutputs> = BTreeMap::new();
        let mut deep = Vec::new();
        for input in ids.iter().filter_map(|id| self.inputs.get(*id as usize)) {
            match input {
                Some(Input::Source(path)) => {
                    sources.insert(path.clone());
                }
                Some(Input::Deep(path)) => deep.push(path.clone()),
                Some(Input::Output { drv, output, .. }) => {
                    drvs.entry(drv.clone()).or_default().add(output.clone());
                }
                Some(Input::Dynamic(path, chain, output)) => {
                    let node = drvs.entry(path.clone()).or_default();
                    node.add_dynamic(chain.iter().cloned(), output.clone())
                        .map_err(store_error)?;
                }
                None => {}
            }
        }
        for path in deep {
            for object in self.closure(host, store, &path)? {
                if let Some(known) = self.known(&object) {
                    let node = drvs.entry(object.clone()).or_default();
                    for (output, _) in &known.outputs {
                        node.add(output.clone());
                    }
                }
                sources.insert(object);
            }
        }
        Ok(Inputs::Sets(sources, drvs))
    }
}

fn input_of(element: &ContextElement, store: &StoreDir) -> Result<Input> {
    let parse = |path: &[u8]| store.parse(path).map_err(store_error);
    Ok(match element {
        ContextElement::Path(path) => Input::Source(parse(path)?),
        ContextElement::DrvDeep(path) => Input::Deep(parse(path)?),
        ContextElement::Output { drv, output } => {
            let output = String::from_utf8_lossy(output);
            let mut chain: Vec<OutputName> = output.split('!').map(OutputName::from).collect();
            let output = chain.pop().unwrap_or_default();
            let drv = parse(drv)?;
            if chain.is_empty() {
                Input::Output {
                    drv,
                    number: None,
                    output,
                }
            } else {
                Input::Dynamic(drv, chain, output)
            }
        }
    })
}

/// Runs something on the known derivations while the machine is at hand, too.
fn with_derivations<T>(
    m: &mut Machine,
    f: impl FnOnce(&mut Machine, &mut Derivations) -> Result<T>,
) -> Result<T> {
    let mut derivations = std::mem::take(m.extension::<Derivations>());
    let result = f(m, &mut derivations);
    *m.extension::<Derivations>() = derivations;
    result
}

// ---- derivationStrict -------------------------------------------------------------------------------

/// The state of `derivationStrict`.
///
/// Locals: the attributes, then one value for each attribute that was dealt with, in the order of their names: its text; null
/// for what is left out; for `args` a list of texts; with structured attributes the JSON of each value.
#[derive(Clone, Copy)]
struct State {
    /// What is to be done.
    phase: u8,
    /// What is on the stack on resumption.
    waiting: u8,
    structured: bool,
    ignore_nulls: bool,
    /// The attribute at hand.
    index: u32,
}

const NAME: u8 = 0;
const FLAGS: u8 = 1;
const ATTRIBUTES: u8 = 2;
/// In `args`: its elements are on the stack.
const ARGUMENTS: u8 = 3;
/// In a structured attribute whose JSON is on the stack, and whose value is looked at too.
const SPECIAL: u8 = 4;

const NOTHING: u8 = 0;
/// A value that was forced, to be found in its thunk.
const FORCED: u8 = 1;
/// A text that stays.
const TEXT: u8 = 2;

impl State {
    fn unpack(word: u64) -> State {
        State {
            phase: word as u8,
            waiting: (word >> 8) as u8,
            structured: word >> 16 & 1 != 0,
            ignore_nulls: word >> 17 & 1 != 0,
            index: (word >> 32) as u32,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.phase)
            | u64::from(self.waiting) << 8
            | u64::from(self.structured) << 16
            | u64::from(self.ignore_nulls) << 17
            | u64::from(self.index) << 32
    }
}

fn derivation_strict(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let mut state = State::unpack(a.state);
    let step = derivation_step(m, a, &mut state);
    a.state = state.pack();
    step
}

fn derivation_step(m: &mut Machine, a: &Activation, state: &mut State) -> Result<Step> {
    let attrs = m.want_attrs(m.local(a, 0))?;
    let known = m.known;
    let waited = std::mem::replace(&mut state.waiting, NOTHING);
    if waited == FORCED {
        m.pop();
    }
    macro_rules! force {
        ($v:expr) => {{
            let v = $v;
            if v.is_thunk() {
                state.waiting = FORCED;
                return Ok(Step::Force(v));
            }
            v
        }};
    }
    if state.phase == NAME {
        let name = attrs
            .get(known.name)
            .ok_or_else(|| m.missing_attr(attrs, known.name))?;
        let name = m.want_plain_string(force!(name))?;
        nivis_store::store_path::check_name(name.bytes()).map_err(|e| {
            Error::new(
                ErrorKind::Store,
                format!(
                    "invalid derivation name: {}. Please pass a different 'name'.",
                    e.message()
                ),
            )
        })?;
        state.phase = FLAGS;
    }
    if state.phase == FLAGS {
        if let Some(v) = attrs.get(known.structured_attrs) {
            state.structured = m.want_bool(force!(v))?;
        }
        if let Some(v) = attrs.get(known.ignore_nulls) {
            state.ignore_nulls = m.want_bool(force!(v))?;
        }
        state.phase = ATTRIBUTES;
    }
    let sorted = m.in_order(attrs);
    if state.phase == ATTRIBUTES && waited == TEXT {
        // The text of the attribute at hand is in its place.
        if let Some((symbol, value, _)) = sorted.get(state.index as usize) {
            finish_attribute(m, a, attrs, (symbol, value), state)?;
        }
    }
    while let Some((symbol, value, _)) = sorted.get(state.index as usize) {
        if state.phase == SPECIAL {
            let value = force!(value);
            if symbol == known.outputs {
                for output in m.want_list(value)?.iter() {
                    force!(output);
                }
            }
            finish_attribute(m, a, attrs, (symbol, value), state)?;
            continue;
        }
        if state.phase == ARGUMENTS {
            let list = m.want_list(force!(value))?;
            while let Some(element) = list.get(m.locals(a) - 1 - state.index as usize) {
                if element.is_string() {
                    m.push(element);
                } else {
                    state.waiting = TEXT;
                    m.push(element);
                    m.push(Coerce::DERIVATION.value());
                    return Ok(Step::Run(ops::coerce_to_string, 2));
                }
            }
            let texts = m.list_of_locals(a, 1 + state.index as usize);
            m.push(texts);
            state.phase = ATTRIBUTES;
            state.index += 1;
            continue;
        }
        if symbol == known.ignore_nulls {
            m.push(Value::NULL);
            state.index += 1;
            continue;
        }
        if state.ignore_nulls && force!(value).is_null() {
            m.push(Value::NULL);
            state.index += 1;
            continue;
        }
        if symbol == known.args {
            state.phase = ARGUMENTS;
            continue;
        }
        if symbol == known.content_addressed || symbol == known.impure {
            if m.want_bool(force!(value))? {
                let feature = if symbol == known.impure {
                    "impure-derivations"
                } else {
                    "ca-derivations"
                };
                require_feature(m, feature, "")?;
                m.push(Value::TRUE);
            } else {
                m.push(Value::NULL);
            }
            state.index += 1;
            continue;
        }
        if state.structured {
            if symbol == known.structured_attrs {
                m.push(Value::NULL);
                state.index += 1;
                continue;
            }
            state.waiting = TEXT;
            m.push(value);
            let options = data::TO_JSON.value(m);
            m.push(options);
            return Ok(Step::Run(data::json_text, 2));
        }
        if !value.is_string() {
            state.waiting = TEXT;
            m.push(value);
            m.push(Coerce::DERIVATION.value());
            return Ok(Step::Run(ops::coerce_to_string, 2));
        }
        m.push(value);
        finish_attribute(m, a, attrs, (symbol, value), state)?;
    }
    let texts = m.locals_from(a, 1);
    build(m, attrs, &texts, *state).map(Step::Done)
}

/// What is said of a derivation in the trace of an error.
pub(crate) fn describe(m: &mut Machine, a: &Activation) -> Vec<(String, SourceSpan)> {
    let state = State::unpack(a.state);
    let mut steps = Vec::new();
    let Some(attrs) = m.local(a, 0).as_attrs() else {
        return steps;
    };
    let known = m.known;
    let name = attrs.get(known.name).and_then(Value::as_string);
    let span = |pos: PosId| SourceSpan { start: pos, len: 0 };
    let (Some(name), true) = (name, state.phase != NAME) else {
        let pos = attrs
            .iter()
            .find(|(symbol, ..)| *symbol == known.name)
            .map_or(PosId::NONE, |(.., pos)| pos);
        steps.push((
            "while evaluating the derivation attribute 'name'".to_string(),
            span(pos),
        ));
        return steps;
    };
    let name = name.to_text();
    if state.phase >= ATTRIBUTES
        && let Some((symbol, _, pos)) = m.sorted_attr(attrs, state.index as usize)
    {
        let key = m.attr_text(symbol);
        steps.push((
            format!("while evaluating attribute '{key}' of derivation '{name}'"),
            span(pos),
        ));
    }
    let pos = attrs
        .iter()
        .find(|(symbol, ..)| *symbol == known.name)
        .map_or(PosId::NONE, |(.., pos)| pos);
    let place = m.describe_position(pos);
    steps.push((
        format!(
            "while evaluating derivation '{name}'\n  whose name attribute is located at {place}"
        ),
        SourceSpan::default(),
    ));
    steps
}

/// Looks at an attribute whose text is in place, and goes on to the next one.
fn finish_attribute(
    m: &mut Machine,
    a: &Activation,
    attrs: AttrsRef,
    (symbol, value): (Symbol, Value),
    state: &mut State,
) -> Result<()> {
    let known = &m.known;
    let special = [
        known.builder,
        known.system,
        known.outputs,
        known.output_hash,
        known.output_hash_algo,
        known.output_hash_mode,
    ]
    .contains(&symbol);
    if special {
        if state.structured && state.phase == ATTRIBUTES {
            state.phase = SPECIAL;
            return Ok(());
        }
        let text = if state.structured {
            value
        } else {
            m.local(a, 1 + state.index as usize)
        };
        let name = attrs.get(known.name).and_then(Value::as_string);
        if symbol == known.outputs {
            output_names(m, text)?;
        } else if symbol == known.output_hash_mode {
            method(m, name, text, state.structured)?;
        } else if state.structured && symbol != known.builder {
            m.want_plain_string(text)?;
        } else {
            m.want_string(text)?;
        }
    }
    if state.structured {
        warn_ineffective(m, attrs, symbol);
    }
    state.phase = ATTRIBUTES;
    state.index += 1;
    Ok(())
}

/// Attributes that structured ones are without effect beside.
fn warn_ineffective(m: &mut Machine, attrs: AttrsRef, symbol: Symbol) {
    const NAMES: [&[u8]; 6] = [
        b"allowedReferences",
        b"allowedRequisites",
        b"disallowedReferences",
        b"disallowedRequisites",
        b"maxSize",
        b"maxClosureSize",
    ];
    if !NAMES.contains(&m.symbols.name(symbol)) {
        return;
    }
    let drv = attrs
        .get(m.known.name)
        .and_then(Value::as_string)
        .map(StringRef::to_text)
        .unwrap_or_default();
    let name = m.symbols.text(symbol);
    m.host.message(
        format!(
            "warning: In a derivation named '{drv}', 'structuredAttrs' disables the effect of the derivation attribute \
             '{name}'; use 'outputChecks.<output>.{name}' instead"
        )
        .as_bytes(),
    );
}

/// The names in an attribute `outputs`: a text with spaces between them or a list.
fn output_names(m: &Machine, v: Value) -> Result<BTreeSet<OutputName>> {
    let mut names = BTreeSet::new();
    let mut add = |name: &[u8]| {
        let shown = String::from_utf8_lossy(name);
        if name == b"drvPath" {
            return Err(Error::other("invalid derivation output name 'drvPath'"));
        }
        if !names.insert(OutputName::from(shown.as_ref())) {
            return Err(Error::other(format!(
                "duplicate derivation output '{shown}'"
            )));
        }
        Ok(())
    };
    if let Some(list) = v.as_list() {
        for name in list.iter() {
            add(m.want_plain_string(name)?.bytes())?;
        }
    } else {
        let text = m.want_string(v)?;
        for name in text
            .bytes()
            .split(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
        {
            if !name.is_empty() {
                add(name)?;
            }
        }
    }
    if names.is_empty() {
        return Err(Error::other(
            "derivation cannot have an empty set of outputs",
        ));
    }
    Ok(names)
}

/// The meaning of `outputHashMode`.
fn method(
    m: &Machine,
    drv: Option<StringRef>,
    v: Value,
    structured: bool,
) -> Result<ContentAddressMethod> {
    let text = if structured {
        m.want_plain_string(v)?
    } else {
        m.want_string(v)?
    };
    if text.bytes() == b"recursive" {
        return Ok(ContentAddressMethod::Nar);
    }
    let method = ContentAddressMethod::parse(text.bytes()).map_err(|_| {
        Error::other(format!(
            "invalid value '{}' for 'outputHashMode' attribute",
            text.to_text()
        ))
    })?;
    match method {
        ContentAddressMethod::Text => {
            let name = drv.map(StringRef::to_text).unwrap_or_default();
            let reason = format!("text-hashed derivation '{name}', outputHashMode = \"text\"");
            require_feature(m, "dynamic-derivations", &reason)?;
        }
        ContentAddressMethod::Git => require_feature(m, "git-hashing", "")?,
        _ => {}
    }
    Ok(method)
}

/// Makes the derivation of evaluated attributes.
/// The texts of a derivation, where they are.
#[derive(Default)]
struct Texts {
    platform: Option<StringRef>,
    builder: Option<StringRef>,
    args: Vec<StringRef>,
    /// In the order of the names.
    env: Vec<(Symbol, StringRef)>,
    /// Variables named like outputs, which replace those of `env`.
    output_env: BTreeMap<OutputName, String>,
    structured_attrs: Option<Vec<u8>>,
}

impl Texts {
    fn env<'a>(&'a self, names: &'a nivis_eval::symbol::Symbols) -> Vec<(&'a [u8], &'a [u8])> {
        let mut env = Vec::with_capacity(self.env.len() + self.output_env.len());
        let mut outputs = self.output_env.iter().peekable();
        for (symbol, text) in &self.env {
            let name = names.name(*symbol);
            while let Some((output, value)) = outputs.next_if(|(o, _)| o.as_bytes() < name) {
                env.push((output.as_bytes(), value.as_bytes()));
            }
            if outputs.peek().is_none_or(|(o, _)| o.as_bytes() != name) {
                env.push((name, text.bytes()));
            }
        }
        env.extend(outputs.map(|(output, value)| (output.as_bytes(), value.as_bytes())));
        env
    }
}

fn build(m: &mut Machine, attrs: AttrsRef, texts: &[Value], state: State) -> Result<Value> {
    let known = m.known;
    let sorted = m.in_order(attrs);
    let store = store_dir(m)?;
    // Its texts are put together more than once.
    let size = |v: &Value| v.as_string().map_or(0, |s| s.len());
    m.check_string(texts.iter().map(size).fold(0, usize::saturating_add))?;
    let name = match attrs.get(known.name).and_then(Value::as_string) {
        Some(name) => name,
        None => return Err(m.missing_attr(attrs, known.name)),
    };
    let mut drv = Derivation::new(name.to_text());
    let mut contexts: Vec<ContextId> = Vec::new();
    let mut add_context = |s: StringRef| {
        let context = s.context();
        if !context.is_empty() && contexts.last() != Some(&context) {
            contexts.push(context);
        }
    };
    let mut drv_texts = Texts::default();
    drv_texts.env.reserve(texts.len());
    let mut json: Vec<u8> = Vec::new();
    let mut outputs: Option<BTreeSet<OutputName>> = None;
    let mut output_hash = None;
    let mut algorithm = None;
    let mut ingestion = None;
    let (mut content_addressed, mut impure) = (false, false);
    for (index, text) in texts.iter().enumerate() {
        let Some((symbol, value, _)) = sorted.get(index) else {
            break;
        };
        if text.is_null() {
            continue;
        }
        if symbol == known.args {
            for arg in m.want_list(*text)?.iter() {
                let arg = m.want_string(arg)?;
                add_context(arg);
                drv_texts.args.push(arg);
            }
            continue;
        }
        if symbol == known.content_addressed {
            content_addressed = true;
            continue;
        }
        if symbol == known.impure {
            impure = true;
            continue;
        }
        let text = m.want_string(*text)?;
        add_context(text);
        let value = if state.structured {
            json.push(if json.is_empty() { b'{' } else { b',' });
            data::quote(m.symbols.name(symbol), &mut json)?;
            json.push(b':');
            json.extend_from_slice(text.bytes());
            value
        } else {
            text.value()
        };
        if symbol == known.json && !state.structured {
            let drv_name = name.to_text();
            m.host.message(
                format!(
                    "warning: In derivation '{drv_name}': setting structured attributes via '__json' is deprecated, and \
                     may be disallowed in future versions of Nix. Set '__structuredAttrs = true' instead."
                )
                .as_bytes(),
            );
            drv_texts.structured_attrs = Some(data::normal_json_object(text.bytes())?);
            continue;
        }
        if !state.structured {
            drv_texts.env.push((symbol, text));
        }
        if symbol == known.builder {
            drv_texts.builder = Some(m.want_string(value)?);
        } else if symbol == known.system {
            drv_texts.platform = Some(m.want_string(value)?);
        } else if symbol == known.outputs {
            outputs = Some(output_names(m, value)?);
        } else if symbol == known.output_hash {
            output_hash = Some(m.want_string(value)?);
        } else if symbol == known.output_hash_algo {
            let text = m.want_string(value)?;
            algorithm = HashAlgorithm::from_name(text.bytes());
            if algorithm == Some(HashAlgorithm::Blake3) {
                require_feature(m, "blake3-hashes", "")?;
            }
        } else if symbol == known.output_hash_mode {
            ingestion = Some(method(m, Some(name), value, state.structured)?);
        }
    }
    if state.structured {
        json.extend_from_slice(if json.is_empty() { b"{}" } else { b"}" });
        drv_texts.structured_attrs = Some(json);
    }
    let outputs = outputs.unwrap_or_else(|| BTreeSet::from([OutputName::new_static("out")]));

    contexts.sort_unstable();
    contexts.dedup();
    let host = Rc::clone(&m.host);
    let inputs = with_derivations(m, |m, derivations| {
        derivations.store = Some(store.clone());
        derivations.inputs(&m.contexts, &*host, &store, &contexts)
    })?;

    let other = |message: &str| Err(Error::other(message));
    let given = |text: Option<StringRef>| text.is_some_and(|text| !text.is_empty());
    if !given(drv_texts.builder) {
        return other("required attribute 'builder' missing");
    }
    if !given(drv_texts.platform) {
        return other("required attribute 'system' missing");
    }
    let only_out = outputs.len() == 1 && outputs.contains("out");
    if drv.name.ends_with(".drv") && !(ingestion == Some(ContentAddressMethod::Text) && only_out) {
        return other(
            "derivation names are allowed to end in '.drv' only if they produce a single derivation file",
        );
    }
    if let Some(hash) = output_hash {
        if !only_out {
            return other("multiple outputs are not supported in fixed-output derivations");
        }
        let hash = fixed_hash(m, hash, algorithm)?;
        let content = ContentAddress {
            method: ingestion.unwrap_or(ContentAddressMethod::Flat),
            hash,
        };
        let out = OutputName::new_static("out");
        drv_texts.output_env.insert(out.clone(), String::new());
        drv.outputs.insert(out, DerivationOutput::CaFixed(content));
    } else if content_addressed || impure {
        if content_addressed && impure {
            return other("derivation cannot be both content-addressed and impure");
        }
        let method = ingestion.unwrap_or(ContentAddressMethod::Nar);
        let algorithm = algorithm.unwrap_or(HashAlgorithm::Sha256);
        for output in &outputs {
            drv_texts
                .output_env
                .insert(output.clone(), hash_placeholder(output));
            let kind = if impure {
                DerivationOutput::Impure { method, algorithm }
            } else {
                DerivationOutput::CaFloating { method, algorithm }
            };
            drv.outputs.insert(output.clone(), kind);
        }
    } else {
        for output in &outputs {
            drv_texts.output_env.insert(output.clone(), String::new());
            drv.outputs
                .insert(output.clone(), DerivationOutput::Deferred);
        }
    }
    finish(m, &store, drv, &inputs, &drv_texts)
}

/// The hash of a fixed output; an empty text means zeros.
fn fixed_hash(m: &mut Machine, text: StringRef, algorithm: Option<HashAlgorithm>) -> Result<Hash> {
    if !text.is_empty() {
        return parse_hash(m, text, algorithm);
    }
    let zeros = algorithm.and_then(|a| Hash::from_bytes(a, &vec![0; a.digest_len()]));
    let hash = zeros.ok_or_else(|| {
        Error::new(
            ErrorKind::Store,
            "empty hash requires explicit hash algorithm",
        )
    })?;
    crate::files::warn_empty_hash(m, hash.algorithm());
    Ok(hash)
}

/// The inputs of a derivation as its parts want them: outputs of one derivation together, by path.
struct Sorted<'a> {
    sources: Vec<&'a StorePath>,
    /// Path, output and number of the derivation.
    outputs: Vec<(&'a StorePath, &'a OutputName, u32)>,
    /// For the derivations of which several outputs are needed, in order.
    several: Vec<InputOutputs>,
}

impl<'a> Sorted<'a> {
    fn new(derivations: &'a Derivations, ids: &[u32]) -> Sorted<'a> {
        let mut sources = Vec::new();
        let mut outputs = Vec::with_capacity(ids.len());
        for input in ids
            .iter()
            .filter_map(|id| derivations.inputs.get(*id as usize))
        {
            match input {
                Some(Input::Output {
                    drv,
                    number: Some(number),
                    output,
                }) => outputs.push((drv, output, *number)),
                Some(input) => sources.push(input.path()),
                None => {}
            }
        }
        sources.sort_unstable();
        outputs.sort_unstable();
        let several = outputs
            .chunk_by(|a, b| a.2 == b.2)
            .filter(|group| group.len() > 1)
            .map(|group| group.iter().map(|(_, name, _)| (*name).clone()).collect())
            .collect();
        Sorted {
            sources,
            outputs,
            several,
        }
    }

    /// Derivations and what is needed of them, and their numbers.
    fn drvs(&self) -> (Vec<(&StorePath, InputNames<'_>)>, Vec<u32>) {
        let mut several = self.several.iter();
        let mut names = Vec::with_capacity(self.outputs.len());
        let mut numbers = Vec::with_capacity(self.outputs.len());
        for group in self.outputs.chunk_by(|a, b| a.2 == b.2) {
            let Some((path, output, number)) = group.first() else {
                continue;
            };
            let wanted = match group.len() {
                1 => InputNames::One(output),
                _ => match several.next() {
                    Some(node) => InputNames::Many(node),
                    None => continue,
                },
            };
            names.push((*path, wanted));
            numbers.push(*number);
        }
        (names, numbers)
    }
}

/// Completes a derivation, remembers it and returns the set of its paths. `drv` has what is neither text nor input.
fn finish(
    m: &mut Machine,
    store: &StoreDir,
    drv: Derivation,
    inputs: &Inputs,
    texts: &Texts,
) -> Result<Value> {
    let keep = m.host.keeps_store_texts();
    let finished = with_derivations(m, |m, derivations| {
        let sorted;
        let (input_srcs, (input_drvs, numbers)) = match inputs {
            Inputs::Elements(ids) => {
                sorted = Sorted::new(derivations, ids);
                (sorted.sources.clone(), sorted.drvs())
            }
            Inputs::Sets(sources, drvs) => {
                let drvs = drvs
                    .iter()
                    .map(|(path, node)| (path, InputNames::Many(node)));
                (sources.iter().collect(), (drvs.collect(), Vec::new()))
            }
        };
        let parts = DerivationParts {
            name: &drv.name,
            outputs: &drv.outputs,
            input_srcs,
            input_drvs,
            platform: texts
                .platform
                .as_ref()
                .map_or(Default::default(), StringRef::bytes),
            builder: texts
                .builder
                .as_ref()
                .map_or(Default::default(), StringRef::bytes),
            args: texts.args.iter().map(|arg| arg.bytes()).collect(),
            env: texts.env(&m.symbols),
            structured_attrs: texts.structured_attrs.as_deref(),
        };
        let mut lookup = Lookup {
            derivations,
            inputs: &numbers,
            new: None,
        };
        let mut text = Vec::new();
        let finished = parts
            .finish(store, &mut lookup, keep.then_some(&mut text))
            .map_err(store_error)?;
        if keep {
            write_text(m, store, &finished.path, &text, &parts.references())?;
        }
        if let Some(hash) = lookup.new {
            let references = match inputs {
                Inputs::Elements(ids) => References::Elements(ids.as_slice().into()),
                Inputs::Sets(..) => {
                    References::Paths(parts.references().into_iter().cloned().collect())
                }
            };
            derivations.add(finished.path.clone(), || {
                let outputs = drv.outputs.keys().cloned().zip(&finished.outputs);
                Known {
                    hash,
                    references,
                    outputs: outputs.map(|(name, path)| (name, path.clone())).collect(),
                }
            });
        }
        Ok(finished)
    })?;
    let drv_path = finished.path;
    let printed = store.print(&drv_path);
    m.host.note(Note::Derivation {
        name: &drv.name,
        store_path: printed.as_bytes(),
    });
    let drv_text: Arc<[u8]> = printed.as_bytes().into();
    let context = m
        .contexts
        .single(ContextElement::DrvDeep(Arc::clone(&drv_text)));
    let value = m.heap.string(printed.as_bytes(), context);
    let mut entries = vec![(m.known.drv_path, PosId::NONE, value)];
    for (output, path) in drv.outputs.keys().zip(&finished.outputs) {
        let text = match path {
            Some(path) => store.print(path),
            None => DownstreamPlaceholder::unknown_ca_output(&drv_path, output)
                .map_err(store_error)?
                .render(),
        };
        let context = m.contexts.single(ContextElement::Output {
            drv: Arc::clone(&drv_text),
            output: output.as_bytes().into(),
        });
        let value = m.heap.string(text.as_bytes(), context);
        entries.push((m.symbols.intern(output.as_bytes()), PosId::NONE, value));
    }
    Ok(m.attrs(entries))
}

fn write_text(
    m: &Machine,
    store: &StoreDir,
    path: &StorePath,
    text: &[u8],
    references: &[&StorePath],
) -> Result<()> {
    let printed: Vec<String> = references.iter().map(|r| store.print(r)).collect();
    let references: Vec<&[u8]> = printed.iter().map(String::as_bytes).collect();
    m.host
        .write_store_text(store.print(path).as_bytes(), text, &references)
        .map_err(|e| Error::new(ErrorKind::Host, e.to_string()))
}

/// `builtins.toFile`: puts a text into the store.
pub(crate) fn add_text(m: &mut Machine, name: StringRef, contents: StringRef) -> Result<Value> {
    let store = store_dir(m)?;
    let mut references = BTreeSet::new();
    for element in m.contexts.elements(contents.context()) {
        match element {
            ContextElement::Path(path) => {
                references.insert(store.parse(path).map_err(store_error)?);
            }
            other => {
                return Err(Error::other(format!(
                    "files created by builtins.toFile may not reference derivations, but {} references {}",
                    name.to_text(),
                    shown_element(other, &store)
                )));
            }
        }
    }
    let digest = nivis_store::hash::sha256(contents.bytes());
    let path = store
        .make_text_path(&name.to_text(), &digest, &references)
        .map_err(store_error)?;
    let references: Vec<&StorePath> = references.iter().collect();
    if m.host.keeps_store_texts() {
        write_text(m, &store, &path, contents.bytes(), &references)?;
    }
    if !references.is_empty() {
        let references = references.into_iter().cloned().collect();
        m.extension::<Derivations>()
            .texts
            .insert(path.clone(), references);
    }
    let printed = store.print(&path);
    let context = m
        .contexts
        .single(ContextElement::Path(printed.as_bytes().into()));
    Ok(m.heap.string(printed.as_bytes(), context))
}

/// A context element as messages show it.
fn shown_element(element: &ContextElement, store: &StoreDir) -> String {
    let path = String::from_utf8_lossy(element.path());
    let base = path
        .strip_prefix(store.as_str())
        .map_or(&*path, |p| p.trim_start_matches('/'));
    match element {
        ContextElement::Path(_) => base.to_string(),
        ContextElement::DrvDeep(_) => format!("={base}"),
        ContextElement::Output { output, .. } => {
            format!("!{}!{base}", String::from_utf8_lossy(output))
        }
    }
}

// ---- placeholders -----------------------------------------------------------------------------------

fn placeholder(m: &mut Machine, args: &[Value]) -> Result<Value> {
    let output = m.want_plain_string(args[0])?;
    let text = hash_placeholder(output.bytes());
    Ok(m.string(text))
}

fn output_of(m: &mut Machine, a: &mut Activation) -> Result<Step> {
    let store = store_dir(m)?;
    let s = m.want_string(m.local(a, 0))?;
    let element = only_element(m, s).map_err(|count| {
        Error::other(format!(
            "string '{}' has {count} entries in its context. It should only have exactly one entry",
            s.to_text()
        ))
    })?;
    let (drv, chain) = match &element {
        ContextElement::Path(path) => (path.clone(), None),
        ContextElement::Output { drv, output } => (drv.clone(), Some(output.clone())),
        ContextElement::DrvDeep(_) => {
            return Err(Error::other(format!(
                "string '{}' has a context which refers to a complete source and binary closure. This is not supported \
                 at this time",
                s.to_text()
            )));
        }
    };
    let expected = match &chain {
        None => String::from_utf8_lossy(&drv).into_owned(),
        Some(chain) => output_text(m, &store, &drv, chain)?,
    };
    if expected.as_bytes() != s.bytes() {
        let shown = s.to_text();
        return Err(Error::other(match &chain {
            None => {
                format!("path string '{shown}' has context with the different path '{expected}'")
            }
            Some(output) => format!(
                "string '{shown}' has context with the output '{}' from derivation '{}', but the string is not the right \
                 placeholder for this derivation output. It should be '{expected}'",
                String::from_utf8_lossy(output),
                String::from_utf8_lossy(&drv)
            ),
        }));
    }
    if let Some(step) = arguments(m, a, 2, &[(1, Want::PlainString)])? {
        return Ok(step);
    }
    let output = m.want_string(m.local(a, 1))?;
    let chain: Arc<[u8]> = match chain {
        None => output.bytes().into(),
        Some(chain) => [&chain, &b"!"[..], output.bytes()].concat().into(),
    };
    let text = output_text(m, &store, &drv, &chain)?;
    let context = m
        .contexts
        .single(ContextElement::Output { drv, output: chain });
    Ok(Step::Done(m.heap.string(text.as_bytes(), context)))
}

/// The path of an output, or the placeholder when it is not known. `chain` is the name of the output, or with dynamic
/// derivations those of the outputs on the way, with `!` between them.
fn output_text(m: &mut Machine, store: &StoreDir, drv: &[u8], chain: &[u8]) -> Result<String> {
    let path = store.parse(drv).map_err(store_error)?;
    let chain = String::from_utf8_lossy(chain).into_owned();
    let mut names = chain.split('!');
    let first = names.next().unwrap_or_default();
    let host = Rc::clone(&m.host);
    let known = with_derivations(m, |_, derivations| {
        derivations.learn(&*host, store, &path)?;
        let outputs = derivations.known(&path).map(|k| &k.outputs);
        let output = outputs.and_then(|outputs| outputs.iter().find(|(name, _)| name == first));
        match output {
            Some((_, output)) => Ok(output.clone()),
            None => Err(Error::new(
                ErrorKind::Store,
                format!(
                    "derivation '{}' does not have output '{first}'",
                    String::from_utf8_lossy(drv)
                ),
            )),
        }
    })?;
    let mut rest = names.peekable();
    if let (Some(known), None) = (&known, rest.peek()) {
        return Ok(store.print(known));
    }
    let first = DownstreamPlaceholder::unknown_ca_output(&path, first).map_err(store_error)?;
    Ok(rest
        .fold(first, |placeholder, output| {
            placeholder.unknown_derivation(output)
        })
        .render())
}

// ---- derivation -------------------------------------------------------------------------------------

/// The function `derivation`, compiled when it is first used.
pub(crate) fn derivation(m: &mut Machine) -> Value {
    fn load(m: &mut Machine, _: &[Value]) -> Result<Value> {
        m.load_text(
            include_bytes!("derivation.nix"),
            Origin::Text("<nix/derivation-internal.nix>".into()),
            Path::new("/"),
        )
    }
    let load = m.add_builtin(Builtin {
        name: "__nivisDerivation",
        args: &["ignored"],
        strict: 0,
        global: false,
        body: Body::Leaf(load),
        doc: "Loads the function `derivation`.",
    });
    m.delay_call(load, Value::NULL)
}
