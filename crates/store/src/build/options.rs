//! What a derivation asks of whoever builds it: certain attributes of its environment, or of its structured
//! attributes, that are not (only) for the builder.

use crate::derivation::{Derivation, OutputName};
use crate::error::{Error, ErrorKind, Result};
use crate::json::Json;
use crate::store_path::{StoreDir, StorePath};
use std::collections::{BTreeMap, BTreeSet};

/// An element of a list of allowed or disallowed references.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowedRef {
    /// A store path.
    Path(StorePath),
    /// An output of the derivation itself.
    Output(OutputName),
}

/// What is checked about an output.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputChecks {
    /// Whether an output may refer to itself whatever the lists of requisites say.
    pub ignore_self_refs: bool,
    /// Size of the archive in bytes.
    pub max_size: Option<u64>,
    /// Size of the archives of the closure in bytes.
    pub max_closure_size: Option<u64>,
    /// What may be referred to, if not anything.
    pub allowed_references: Option<BTreeSet<AllowedRef>>,
    /// What may not be referred to.
    pub disallowed_references: BTreeSet<AllowedRef>,
    /// What may be in the closure, if not anything.
    pub allowed_requisites: Option<BTreeSet<AllowedRef>>,
    /// What may not be in the closure.
    pub disallowed_requisites: BTreeSet<AllowedRef>,
}

/// Checks for all outputs alike, or for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllOutputChecks {
    /// For all.
    Same(OutputChecks),
    /// By output.
    ByOutput(BTreeMap<OutputName, OutputChecks>),
}

/// The options of a derivation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivationOptions {
    /// What is checked about outputs.
    pub output_checks: AllOutputChecks,
    /// Outputs whose references do not count.
    pub unsafe_discard_references: BTreeMap<OutputName, bool>,
    /// Attributes that are passed as files.
    pub pass_as_file: BTreeSet<Vec<u8>>,
    /// Closures whose references are handed to the builder, by file or attribute.
    pub export_references_graph: BTreeMap<String, BTreeSet<StorePath>>,
    /// Whether to build without isolation, where that is allowed.
    pub no_chroot: bool,
    /// Files of the machine that it needs.
    pub impure_host_deps: BTreeSet<String>,
    /// Variables of the caller's environment, for builders with network.
    pub impure_env_vars: BTreeSet<String>,
    /// What the machine must be able to do.
    pub required_system_features: BTreeSet<String>,
    /// Whether it is not worth a remote builder.
    pub prefer_local_build: bool,
    /// Whether its outputs may be substituted.
    pub allow_substitutes: bool,
    /// What has no effect, and will surprise whoever wrote it: warnings for when it is built.
    pub warnings: Vec<String>,
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidDerivation, message)
}

fn context(e: Error, what: &str) -> Error {
    bad(format!("while parsing attribute {what}: {}", e.message()))
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|b| b" \t\n\r".contains(b))
        .filter(|word| !word.is_empty())
}

/// Where attributes come from.
enum Source<'d> {
    Env(&'d Derivation),
    Structured(BTreeMap<String, Json>),
}

impl Source<'_> {
    fn bool(&self, name: &str, default: bool) -> Result<bool> {
        match self {
            Source::Env(drv) => Ok(drv
                .env
                .get(name.as_bytes())
                .map_or(default, |value| value.as_slice() == b"1")),
            Source::Structured(attrs) => match attrs.get(name) {
                None => Ok(default),
                Some(value) => boolean(value).map_err(|e| context(e, &format!("\"{name}\""))),
            },
        }
    }

    fn set(&self, name: &str) -> Result<Option<BTreeSet<String>>> {
        match self {
            Source::Env(drv) => Ok(drv.env.get(name.as_bytes()).map(|value| {
                words(value)
                    .map(|word| String::from_utf8_lossy(word).into_owned())
                    .collect()
            })),
            Source::Structured(attrs) => attrs
                .get(name)
                .map(|value| string_set(value).map_err(|e| context(e, &format!("\"{name}\""))))
                .transpose(),
        }
    }
}

fn kind_name(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn expected(what: &str, value: &Json) -> Error {
    bad(format!(
        "Expected JSON value to be of type '{what}' but it is of type '{}': {}",
        kind_name(value),
        value.to_text()
    ))
}

fn boolean(value: &Json) -> Result<bool> {
    match value {
        Json::Bool(b) => Ok(*b),
        other => Err(expected("boolean", other)),
    }
}

fn object(value: &Json) -> Result<&BTreeMap<String, Json>> {
    match value {
        Json::Object(map) => Ok(map),
        other => Err(expected("object", other)),
    }
}

fn string(value: &Json) -> Result<String> {
    match value {
        Json::String(text) => Ok(text.clone()),
        other => Err(expected("string", other)),
    }
}

fn string_set(value: &Json) -> Result<BTreeSet<String>> {
    match value {
        Json::Array(list) => list.iter().map(string).collect(),
        other => Err(expected("array", other)),
    }
}

fn number(value: Option<&Json>) -> Result<Option<u64>> {
    match value {
        None => Ok(None),
        Some(Json::Number(text)) => text
            .parse()
            .map(Some)
            .map_err(|_| bad(format!("'{text}' is not a number of bytes"))),
        Some(other) => Err(expected("number", other)),
    }
}

/// The strings in nested arrays.
fn flatten(value: &Json, out: &mut BTreeSet<String>) -> Result<()> {
    let mut todo = vec![value];
    while let Some(value) = todo.pop() {
        match value {
            Json::String(text) => {
                out.insert(text.clone());
            }
            Json::Array(list) => todo.extend(list),
            _ => {
                return Err(bad(
                    "'exportReferencesGraph' value is not an array or a string",
                ));
            }
        }
    }
    Ok(())
}

fn parse_refs(store: &StoreDir, names: BTreeSet<String>) -> BTreeSet<AllowedRef> {
    names
        .into_iter()
        .map(|name| match store.parse_lenient(&name) {
            Ok(path) => AllowedRef::Path(path),
            Err(_) => AllowedRef::Output(name.into()),
        })
        .collect()
}

/// The store path that a path is or lies below.
fn top_path(store: &StoreDir, text: &str) -> Result<StorePath> {
    Ok(store.split(text.as_bytes())?.0)
}

/// Whether a file name may stand in `exportReferencesGraph`.
fn is_file_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

impl DerivationOptions {
    /// Reads the options of a derivation in which no placeholders of other derivations are left.
    pub fn of(store: &StoreDir, drv: &Derivation) -> Result<DerivationOptions> {
        let source = match &drv.structured_attrs {
            None => Source::Env(drv),
            Some(text) => match Json::parse(text)? {
                Json::Object(map) => Source::Structured(map),
                other => return Err(expected("object", &other)),
            },
        };
        Ok(DerivationOptions {
            output_checks: output_checks(store, &source)?,
            unsafe_discard_references: discard(&source)?,
            pass_as_file: match &source {
                Source::Env(drv) => drv
                    .env
                    .get(b"passAsFile".as_slice())
                    .map(|value| words(value).map(<[u8]>::to_vec).collect())
                    .unwrap_or_default(),
                Source::Structured(_) => BTreeSet::new(),
            },
            export_references_graph: export_graph(store, &source)?,
            no_chroot: source.bool("__noChroot", false)?,
            impure_host_deps: source.set("__impureHostDeps")?.unwrap_or_default(),
            impure_env_vars: source.set("impureEnvVars")?.unwrap_or_default(),
            required_system_features: source.set("requiredSystemFeatures")?.unwrap_or_default(),
            prefer_local_build: source.bool("preferLocalBuild", false)?,
            allow_substitutes: source.bool("allowSubstitutes", true)?,
            warnings: warnings(drv, &source),
        })
    }
}

fn warnings(drv: &Derivation, source: &Source<'_>) -> Vec<String> {
    let Source::Structured(attrs) = source else {
        return Vec::new();
    };
    let top = |name, because| {
        format!(
            "'structuredAttrs' disables the effect of the top-level attribute '{name}'; {because}"
        )
    };
    let mut warnings = Vec::new();
    for name in [
        "allowedReferences",
        "allowedRequisites",
        "disallowedRequisites",
        "disallowedReferences",
        "maxSize",
        "maxClosureSize",
    ] {
        if attrs.contains_key(name) {
            warnings.push(top(name, "use 'outputChecks' instead"));
        }
    }
    if drv.env.contains_key(b"passAsFile".as_slice()) {
        warnings.push(top(
            "passAsFile",
            "because all JSON is always passed via file",
        ));
    }
    if let Some(graph) = attrs.get("exportReferencesGraph")
        && !matches!(graph, Json::Object(_))
    {
        warnings.push(
            "'exportReferencesGraph' in structured attrs is not a JSON object, ignoring".into(),
        );
    }
    warnings
}

fn output_checks(store: &StoreDir, source: &Source<'_>) -> Result<AllOutputChecks> {
    let Source::Structured(attrs) = source else {
        let refs = |name: &str| -> Result<Option<BTreeSet<AllowedRef>>> {
            Ok(source.set(name)?.map(|names| parse_refs(store, names)))
        };
        return Ok(AllOutputChecks::Same(OutputChecks {
            ignore_self_refs: true,
            max_size: None,
            max_closure_size: None,
            allowed_references: refs("allowedReferences")?,
            disallowed_references: refs("disallowedReferences")?.unwrap_or_default(),
            allowed_requisites: refs("allowedRequisites")?,
            disallowed_requisites: refs("disallowedRequisites")?.unwrap_or_default(),
        }));
    };
    let mut all = BTreeMap::new();
    if let Some(checks) = attrs.get("outputChecks") {
        for (output, checks) in object(checks)? {
            let checks = object(checks)?;
            let refs = |name: &str| -> Result<Option<BTreeSet<AllowedRef>>> {
                let Some(value) = checks.get(name) else {
                    return Ok(None);
                };
                let names = string_set(value)
                    .map_err(|e| context(e, &format!("'outputChecks.\"{output}\".{name}'")))?;
                Ok(Some(parse_refs(store, names)))
            };
            let checks = OutputChecks {
                ignore_self_refs: false,
                max_size: number(checks.get("maxSize"))?,
                max_closure_size: number(checks.get("maxClosureSize"))?,
                allowed_references: refs("allowedReferences")?,
                disallowed_references: refs("disallowedReferences")?.unwrap_or_default(),
                allowed_requisites: refs("allowedRequisites")?,
                disallowed_requisites: refs("disallowedRequisites")?.unwrap_or_default(),
            };
            all.insert(OutputName::from(output.as_str()), checks);
        }
    }
    Ok(AllOutputChecks::ByOutput(all))
}

fn discard(source: &Source<'_>) -> Result<BTreeMap<OutputName, bool>> {
    let Source::Structured(attrs) = source else {
        return Ok(BTreeMap::new());
    };
    let Some(value) = attrs.get("unsafeDiscardReferences") else {
        return Ok(BTreeMap::new());
    };
    let read = || -> Result<BTreeMap<OutputName, bool>> {
        object(value)?
            .iter()
            .map(|(output, value)| Ok((OutputName::from(output.as_str()), boolean(value)?)))
            .collect()
    };
    read().map_err(|e| context(e, "'unsafeDiscardReferences'"))
}

fn export_graph(
    store: &StoreDir,
    source: &Source<'_>,
) -> Result<BTreeMap<String, BTreeSet<StorePath>>> {
    let mut graph = BTreeMap::new();
    match source {
        Source::Structured(attrs) => {
            // Other types are warned about.
            if let Some(Json::Object(map)) = attrs.get("exportReferencesGraph") {
                for (key, value) in map {
                    let mut names = BTreeSet::new();
                    flatten(value, &mut names)?;
                    let paths = names
                        .iter()
                        .map(|name| top_path(store, name))
                        .collect::<Result<_>>()?;
                    graph.insert(key.clone(), paths);
                }
            }
        }
        Source::Env(drv) => {
            let text = drv
                .env
                .get(b"exportReferencesGraph".as_slice())
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .unwrap_or_default();
            let mut words = text.split_whitespace();
            while let Some(file) = words.next() {
                let Some(path) = words.next() else {
                    return Err(bad(format!(
                        "odd number of tokens in 'exportReferencesGraph': '{text}'"
                    )));
                };
                if !is_file_name(file) {
                    return Err(bad(format!(
                        "invalid file name '{file}' in 'exportReferencesGraph'"
                    )));
                }
                graph.insert(file.to_owned(), BTreeSet::from([top_path(store, path)?]));
            }
        }
    }
    Ok(graph)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NAMES: [&str; 16] = [
        "__impureHostDeps",
        "__noChroot",
        "allowSubstitutes",
        "allowedReferences",
        "allowedRequisites",
        "disallowedReferences",
        "disallowedRequisites",
        "exportReferencesGraph",
        "impureEnvVars",
        "maxClosureSize",
        "maxSize",
        "outputChecks",
        "passAsFile",
        "preferLocalBuild",
        "requiredSystemFeatures",
        "unsafeDiscardReferences",
    ];

    fn names() -> impl Strategy<Value = String> {
        prop::sample::select(NAMES.to_vec()).prop_map(String::from)
    }

    fn values() -> impl Strategy<Value = Json> {
        let path = "/nix/store/58n44qvvh49mxyash33m1kadrd9k20gr-a";
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::Bool),
            "-?[0-9]{1,25}".prop_map(Json::Number),
            "[ a1./]{0,8}".prop_map(Json::String),
            Just(Json::string(path)),
        ];
        leaf.prop_recursive(3, 20, 4, |inner| {
            let key = prop_oneof![names(), Just("out".to_owned())];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
                prop::collection::btree_map(key, inner, 0..4).prop_map(Json::Object),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_attributes_are_an_answer(
            attrs in prop::collection::btree_map(names(), values(), 0..4),
        ) {
            let store = StoreDir::default();
            let mut drv = Derivation::new("x");
            for (name, value) in &attrs {
                drv.env.insert(name.as_str().into(), value.to_text().into());
            }
            let _ = DerivationOptions::of(&store, &drv);
            drv.structured_attrs = Some(Json::Object(attrs).to_text().into());
            let _ = DerivationOptions::of(&store, &drv);
        }
    }
}
