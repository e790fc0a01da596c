//! The JSON form of derivations (format version 4), as `nix derivation show` prints it.
//!
//! Store paths in it lack the store folder; structured attributes appear as a value of their own.

use super::{
    Derivation, DerivationOutput, InputOutputs, MAX_DYNAMIC_DEPTH, OutputName,
    STRUCTURED_ATTRS_KEY, check_output_name, invalid, too_deep,
};
use crate::content_address::{ContentAddress, ContentAddressMethod};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashAlgorithm};
use crate::json::Json;
use crate::store_path::{StorePath, check_name};
use std::collections::{BTreeMap, BTreeSet};

/// The version of the format.
pub const JSON_VERSION: &str = "4";

type Object = BTreeMap<String, Json>;

impl Derivation {
    /// The JSON form. An error when a string is not valid UTF-8, or when the structured attributes are
    /// not a JSON object.
    pub fn to_json(&self) -> Result<Json> {
        let outputs = self
            .outputs
            .iter()
            .map(|(name, output)| (name.as_str(), output_to_json(output)));
        let drvs = self
            .input_drvs
            .iter()
            .map(|(path, node)| (path.base_name(), inputs_to_json(node)));
        let srcs = self.input_srcs.iter().map(|p| Json::string(p.base_name()));
        let args = self.args.iter().map(|a| text(a)).collect::<Result<_>>()?;
        let env: Object = self
            .env
            .iter()
            .map(|(key, value)| Ok((string(key)?, text(value)?)))
            .collect::<Result<_>>()?;
        let mut entries = vec![
            ("name", Json::string(&self.name)),
            ("version", Json::Number(JSON_VERSION.into())),
            ("outputs", Json::object(outputs)),
            (
                "inputs",
                Json::object([
                    ("drvs", Json::object(drvs)),
                    ("srcs", Json::Array(srcs.collect())),
                ]),
            ),
            ("system", text(&self.platform)?),
            ("builder", text(&self.builder)?),
            ("args", Json::Array(args)),
            ("env", Json::Object(env)),
        ];
        if let Some(attrs) = &self.structured_attrs {
            match Json::parse(attrs)? {
                object @ Json::Object(_) => entries.push(("structuredAttrs", object)),
                _ => return Err(invalid("structured attributes are not a JSON object")),
            }
        }
        Ok(Json::object(entries))
    }

    /// Reads the JSON form. Strict: there may be no keys but those that [`Derivation::to_json`] writes,
    /// hashes are canonical, sets are sorted. Output paths are not computed; [`Derivation::finish`] does
    /// that, and checks those that are there.
    pub fn from_json(json: &Json) -> Result<Derivation> {
        let mut fields = Fields::new(json, "derivation")?;
        let version = fields.take("version")?;
        if version != Json::Number(JSON_VERSION.into()) {
            return Err(bad(format!(
                "Unsupported derivation JSON format version {}, only format version {JSON_VERSION} is currently supported.",
                version.to_text()
            )));
        }
        let name = into_string(fields.take("name")?, "name")?;
        check_name(&name)?;
        let mut drv = Derivation::new(name);
        for (name, output) in into_object(fields.take("outputs")?, "outputs")? {
            check_output_name(&drv.name, &name)?;
            let output = output_from_json(&output)?;
            drv.outputs.insert(name.into(), output);
        }
        drv.kind()?;

        let inputs = fields.take("inputs")?;
        let mut inputs = Fields::new(&inputs, "inputs")?;
        let srcs = sorted_strings(inputs.take("srcs")?, "srcs")?;
        drv.input_srcs = srcs
            .iter()
            .map(StorePath::from_base_name)
            .collect::<Result<_>>()?;
        for (path, node) in into_object(inputs.take("drvs")?, "drvs")? {
            let path = StorePath::from_base_name(path)?;
            path.derivation_name()?;
            let node = inputs_from_json(&node, 0)?;
            drv.input_drvs.insert(path, node);
        }
        inputs.finish()?;

        drv.platform = into_string(fields.take("system")?, "system")?.into();
        drv.builder = into_string(fields.take("builder")?, "builder")?.into();
        for arg in into_array(fields.take("args")?, "args")? {
            drv.args.push(into_string(arg, "args")?.into());
        }
        for (key, value) in into_object(fields.take("env")?, "env")? {
            if key == STRUCTURED_ATTRS_KEY {
                return Err(bad(
                    "Cannot have an environment variable named '__json'. This key is reserved for encoding structured attrs",
                ));
            }
            drv.env
                .insert(key.into(), into_string(value, "env")?.into());
        }
        if let Some(attrs) = fields.take_optional("structuredAttrs") {
            let attrs = Json::Object(into_object(attrs, "structuredAttrs")?);
            drv.structured_attrs = Some(attrs.to_text().into());
        }
        fields.finish()?;
        Ok(drv)
    }
}

/// What `nix derivation show` prints for several derivations.
pub fn show_derivations<'d>(
    derivations: impl IntoIterator<Item = (&'d StorePath, &'d Derivation)>,
) -> Result<Json> {
    let entries: Object = derivations
        .into_iter()
        .map(|(path, drv)| Ok((path.base_name().to_owned(), drv.to_json()?)))
        .collect::<Result<_>>()?;
    Ok(Json::object([
        ("derivations", Json::Object(entries)),
        ("version", Json::Number(JSON_VERSION.into())),
    ]))
}

fn bad(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Json, message)
}

fn string(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(bad(format!(
            "'{}' is not valid UTF-8 and has no JSON form",
            crate::error::excerpt(bytes)
        ))),
    }
}

fn text(bytes: &[u8]) -> Result<Json> {
    string(bytes).map(Json::String)
}

fn output_to_json(output: &DerivationOutput) -> Json {
    let floating = |method: &ContentAddressMethod, algorithm: &HashAlgorithm| {
        [
            ("hashAlgo", Json::string(algorithm.name())),
            ("method", Json::string(method.name())),
        ]
    };
    match output {
        DerivationOutput::InputAddressed(path) => {
            Json::object([("path", Json::string(path.base_name()))])
        }
        DerivationOutput::CaFixed(ContentAddress { method, hash }) => Json::object([
            ("hash", Json::string(hash.to_sri())),
            ("method", Json::string(method.name())),
        ]),
        DerivationOutput::CaFloating { method, algorithm } => {
            Json::object(floating(method, algorithm))
        }
        DerivationOutput::Deferred => Json::Object(Object::new()),
        DerivationOutput::Impure { method, algorithm } => {
            let [a, b] = floating(method, algorithm);
            Json::object([a, b, ("impure", Json::Bool(true))])
        }
    }
}

fn output_from_json(json: &Json) -> Result<DerivationOutput> {
    let mut fields = Fields::new(json, "output")?;
    if fields.is_empty() {
        return Ok(DerivationOutput::Deferred);
    }
    if let Some(path) = fields.take_optional("path") {
        fields.finish()?;
        let path = StorePath::from_base_name(into_string(path, "path")?)?;
        return Ok(DerivationOutput::InputAddressed(path));
    }
    let method = ContentAddressMethod::parse(into_string(fields.take("method")?, "method")?)?;
    if let Some(hash) = fields.take_optional("hash") {
        fields.finish()?;
        let spelled = into_string(hash, "hash")?;
        let hash = Hash::parse_sri(&spelled)?;
        if hash.to_sri() != spelled {
            return Err(bad(format!("hash '{spelled}' is not spelled '{hash}'")));
        }
        return Ok(DerivationOutput::CaFixed(ContentAddress { method, hash }));
    }
    let algorithm = HashAlgorithm::parse(into_string(fields.take("hashAlgo")?, "hashAlgo")?)?;
    let impure = fields.take_optional("impure");
    fields.finish()?;
    match impure {
        None => Ok(DerivationOutput::CaFloating { method, algorithm }),
        Some(Json::Bool(true)) => Ok(DerivationOutput::Impure { method, algorithm }),
        Some(_) => Err(bad("'impure' must be true or absent")),
    }
}

// Recursion in both is bounded by `MAX_DYNAMIC_DEPTH`.
fn inputs_to_json(node: &InputOutputs) -> Json {
    let outputs = node.outputs().iter().map(|o| Json::string(o.as_str()));
    let dynamic = node
        .dynamic()
        .iter()
        .map(|(name, child)| (name.as_str(), inputs_to_json(child)));
    Json::object([
        ("dynamicOutputs", Json::object(dynamic)),
        ("outputs", Json::Array(outputs.collect())),
    ])
}

fn inputs_from_json(json: &Json, depth: usize) -> Result<InputOutputs> {
    let mut fields = Fields::new(json, "input derivation")?;
    let outputs: BTreeSet<OutputName> = sorted_strings(fields.take("outputs")?, "outputs")?
        .into_iter()
        .map(output_name)
        .collect::<Result<_>>()?;
    let mut dynamic = BTreeMap::new();
    for (name, child) in into_object(fields.take("dynamicOutputs")?, "dynamicOutputs")? {
        if depth >= MAX_DYNAMIC_DEPTH {
            return Err(too_deep());
        }
        dynamic.insert(output_name(name)?, inputs_from_json(&child, depth + 1)?);
    }
    fields.finish()?;
    Ok(InputOutputs { outputs, dynamic })
}

fn output_name(name: String) -> Result<OutputName> {
    check_output_name("x", &name)?;
    Ok(name.into())
}

/// The entries of an object, each to be taken once.
struct Fields {
    what: &'static str,
    entries: Object,
}

impl Fields {
    fn new(json: &Json, what: &'static str) -> Result<Fields> {
        let entries = into_object(json.clone(), what)?;
        Ok(Fields { what, entries })
    }

    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn take(&mut self, key: &str) -> Result<Json> {
        self.take_optional(key)
            .ok_or_else(|| bad(format!("{} in JSON lacks '{key}'", self.what)))
    }

    fn take_optional(&mut self, key: &str) -> Option<Json> {
        self.entries.remove(key)
    }

    fn finish(self) -> Result<()> {
        match self.entries.first_key_value() {
            None => Ok(()),
            Some((key, _)) => Err(bad(format!("{} in JSON has unknown '{key}'", self.what))),
        }
    }
}

fn into_object(json: Json, what: &str) -> Result<Object> {
    match json {
        Json::Object(entries) => Ok(entries),
        _ => Err(bad(format!("{what} in JSON is not an object"))),
    }
}

fn into_array(json: Json, what: &str) -> Result<Vec<Json>> {
    match json {
        Json::Array(items) => Ok(items),
        _ => Err(bad(format!("{what} in JSON is not an array"))),
    }
}

fn into_string(json: Json, what: &str) -> Result<String> {
    match json {
        Json::String(text) => Ok(text),
        _ => Err(bad(format!("{what} in JSON is not a string"))),
    }
}

fn sorted_strings(json: Json, what: &str) -> Result<Vec<String>> {
    let strings: Vec<String> = into_array(json, what)?
        .into_iter()
        .map(|item| into_string(item, what))
        .collect::<Result<_>>()?;
    if strings.windows(2).any(|pair| pair.first() >= pair.last()) {
        return Err(bad(format!(
            "{what} in JSON is not sorted, or repeats a string"
        )));
    }
    Ok(strings)
}
