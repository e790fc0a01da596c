//! What a builder is told: its environment, and files in its folder.

use super::options::DerivationOptions;
use super::settings::BuildSettings;
use crate::derivation::{Derivation, DerivationKind, OutputName};
use crate::error::{Error, ErrorKind, Result};
use crate::hash::{Hash, HashAlgorithm, HashFormat};
use crate::json::Json;
use crate::local::LocalStore;
use crate::placeholder::hash_placeholder;
use crate::registration::Registration;
use crate::store_path::StorePath;
use bstr::ByteSlice;
use std::collections::{BTreeMap, BTreeSet};

/// A folder that does not exist, so that no program finds the files of a home.
pub(super) const HOME: &str = "/homeless-shelter";

/// Variables and files.
#[derive(Debug, Default)]
pub(super) struct BuildEnvironment {
    /// Variables, which may still hold placeholders.
    pub variables: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Files by name, to be written to the build's folder; may still hold placeholders.
    pub files: BTreeMap<String, Vec<u8>>,
}

/// Strings to replace in whatever a builder is told: placeholders of outputs and hash parts.
pub(super) type InputRewrites = BTreeMap<Vec<u8>, Vec<u8>>;

/// Replaces all strings in some bytes.
pub(super) fn rewrite(text: &[u8], rewrites: &InputRewrites) -> Vec<u8> {
    let mut text = text.to_vec();
    for (from, to) in rewrites {
        if !from.is_empty() && text.contains_str(from) {
            text = text.replace(from, to);
        }
    }
    text
}

/// What the builder of a derivation is told. `dir` is its folder as it sees it, `inputs` the closure of its
/// inputs.
pub(super) fn environment(
    store: &LocalStore,
    settings: &BuildSettings,
    drv: &Derivation,
    options: &DerivationOptions,
    inputs: &BTreeSet<StorePath>,
    dir: &str,
) -> Result<BuildEnvironment> {
    let mut env = BuildEnvironment::default();
    {
        let mut set = |name: &str, value: &[u8]| {
            env.variables.insert(name.into(), value.to_vec());
        };
        // Shells have defaults for it, which would find the machine's programs.
        set("PATH", b"/path-not-set");
        set("HOME", HOME.as_bytes());
        set("NIX_STORE", store.store_dir().as_str().as_bytes());
        set(
            "NIX_BUILD_CORES",
            settings.build_cores().to_string().as_bytes(),
        );
    }
    match &drv.structured_attrs {
        Some(text) => structured(store, drv, options, inputs, text, dir, &mut env)?,
        None => plain(store, drv, options, inputs, dir, &mut env)?,
    }
    let mut set = |name: &str, value: &[u8]| {
        env.variables.insert(name.into(), value.to_vec());
    };
    for name in ["NIX_BUILD_TOP", "TMPDIR", "TEMPDIR", "TMP", "TEMP", "PWD"] {
        set(name, dir.as_bytes());
    }
    let kind = drv.kind()?;
    if kind == DerivationKind::CaFixed {
        // An old sign for fetchers that they need not check hashes themselves.
        set("NIX_OUTPUT_CHECKED", b"1");
    }
    if has_network(kind) {
        if !settings.impure_env.is_empty() && !settings.feature("configurable-impure-env") {
            return Err(missing_feature("configurable-impure-env"));
        }
        for name in &options.impure_env_vars {
            use std::os::unix::ffi::OsStringExt;
            let value = match settings.impure_env.get(name) {
                Some(value) => value.clone().into_bytes(),
                None => std::env::var_os(name).unwrap_or_default().into_vec(),
            };
            set(name, &value);
        }
    }
    set("NIX_LOG_FD", b"2");
    set("TERM", b"xterm-256color");
    Ok(env)
}

/// Whether builders of a kind reach the network.
pub(super) fn has_network(kind: DerivationKind) -> bool {
    matches!(kind, DerivationKind::CaFixed | DerivationKind::Impure)
}

/// The error for an experimental feature that is off.
pub(super) fn missing_feature(name: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "experimental Nix feature '{name}' is disabled; add '--extra-experimental-features {name}' to enable it"
        ),
    )
}

/// Attributes as variables, or as files that variables name.
fn plain(
    store: &LocalStore,
    drv: &Derivation,
    options: &DerivationOptions,
    inputs: &BTreeSet<StorePath>,
    dir: &str,
    env: &mut BuildEnvironment,
) -> Result<()> {
    for (name, value) in &drv.env {
        if !options.pass_as_file.contains(name.as_slice()) {
            env.variables.insert(name.to_vec(), value.to_vec());
            continue;
        }
        let hash = Hash::of(HashAlgorithm::Sha256, name).encode(HashFormat::Nix32);
        let file = format!(".attr-{hash}");
        let mut variable = name.to_vec();
        variable.extend_from_slice(b"Path");
        env.variables
            .insert(variable, format!("{dir}/{file}").into_bytes());
        env.files.insert(file, value.to_vec());
    }
    for (file, paths) in &options.export_references_graph {
        let closure = export_closure(store, paths, inputs)?;
        env.files
            .insert(file.clone(), validity_registration(store, &closure)?);
    }
    Ok(())
}

/// Structured attributes as JSON and as a shell script.
fn structured(
    store: &LocalStore,
    drv: &Derivation,
    options: &DerivationOptions,
    inputs: &BTreeSet<StorePath>,
    text: &[u8],
    dir: &str,
    env: &mut BuildEnvironment,
) -> Result<()> {
    let Json::Object(mut attrs) = Json::parse(text)? else {
        return Err(Error::new(
            ErrorKind::InvalidDerivation,
            "structured attributes are not an object",
        ));
    };
    let outputs = drv.outputs.keys().map(|name: &OutputName| {
        (
            name.as_str(),
            Json::string(hash_placeholder(name.as_bytes())),
        )
    });
    attrs.insert("outputs".into(), Json::object(outputs));
    for (key, paths) in &options.export_references_graph {
        let closure = export_closure(store, paths, inputs)?;
        attrs.insert(key.clone(), path_infos(store, &closure)?);
    }
    for (variable, file, contents) in [
        ("NIX_ATTRS_SH_FILE", ".attrs.sh", shell_attributes(&attrs)),
        (
            "NIX_ATTRS_JSON_FILE",
            ".attrs.json",
            Json::Object(attrs).to_text(),
        ),
    ] {
        env.variables
            .insert(variable.into(), format!("{dir}/{file}").into_bytes());
        env.files.insert(file.into(), contents.into_bytes());
    }
    Ok(())
}

/// The closure of some inputs; derivations bring their outputs along, so that whole sources can be exported.
fn export_closure(
    store: &LocalStore,
    paths: &BTreeSet<StorePath>,
    inputs: &BTreeSet<StorePath>,
) -> Result<BTreeSet<StorePath>> {
    for path in paths {
        if !inputs.contains(path) {
            return Err(Error::new(
                ErrorKind::Build,
                format!(
                    "cannot export references of path '{}' because it is not in the input closure of the derivation",
                    store.print(path)
                ),
            ));
        }
    }
    let closure = store.closure(paths)?;
    let mut more = BTreeSet::new();
    for path in &closure {
        if path.is_derivation() {
            for output in store.query_output_map(path)?.into_values() {
                let Some(output) = output else {
                    return Err(Error::new(
                        ErrorKind::Build,
                        format!(
                            "export references graph of derivation '{}' needs the path of an output that is not known",
                            store.print(path)
                        ),
                    ));
                };
                more.insert(output);
            }
        }
    }
    if more.is_empty() {
        return Ok(closure);
    }
    more.extend(closure);
    store.closure(&more)
}

/// The form that `nix-store --load-db` reads, without hashes.
fn validity_registration(store: &LocalStore, paths: &BTreeSet<StorePath>) -> Result<Vec<u8>> {
    let mut out = String::new();
    for path in paths {
        let registration = Registration {
            path: path.clone(),
            nar: None,
            // It would make the file depend on how an input was made.
            deriver: None,
            references: store.query_references(path)?,
        };
        registration.write(store.store_dir(), &mut out);
    }
    Ok(out.into_bytes())
}

/// What is known about paths, in the form that builders are used to.
fn path_infos(store: &LocalStore, paths: &BTreeSet<StorePath>) -> Result<Json> {
    let sizes = store.closure_sizes(paths)?;
    let mut list = Vec::with_capacity(paths.len());
    for path in paths {
        let info = store.query_path_info(path)?;
        let closure_size = sizes.get(path).copied().unwrap_or(0);
        let references = info.references.iter().map(|r| Json::string(store.print(r)));
        let mut object = vec![
            (
                "narHash",
                Json::string(info.nar_hash.encode_with_algorithm(HashFormat::Nix32)),
            ),
            ("narSize", Json::Number(info.nar_size.to_string())),
            ("references", Json::Array(references.collect())),
            ("path", Json::string(store.print(&info.path))),
            ("valid", Json::Bool(true)),
            ("closureSize", Json::Number(closure_size.to_string())),
        ];
        if let Some(content) = &info.content_address {
            object.push(("ca", Json::string(content.to_string())));
        }
        list.push(Json::object(object));
    }
    Ok(Json::Array(list))
}

/// Attributes as declarations for Bash, as far as they can be written so: simple values, and arrays and
/// objects of simple values.
fn shell_attributes(attrs: &BTreeMap<String, Json>) -> String {
    let mut out = String::new();
    for (key, value) in attrs {
        if !is_shell_name(key) {
            continue;
        }
        if let Some(simple) = shell_value(value) {
            out.push_str(&format!("declare {key}={simple}\n"));
            continue;
        }
        match value {
            Json::Array(list) => {
                let values: Option<Vec<String>> = list.iter().map(shell_value).collect();
                if let Some(values) = values {
                    out.push_str(&format!("declare -a {key}=("));
                    for value in values {
                        out.push_str(&value);
                        out.push(' ');
                    }
                    out.push_str(")\n");
                }
            }
            Json::Object(map) => {
                let values: Option<Vec<String>> = map
                    .iter()
                    .map(|(key, value)| {
                        Some(format!("[{}]={} ", shell_quote(key), shell_value(value)?))
                    })
                    .collect();
                if let Some(values) = values {
                    out.push_str(&format!("declare -A {key}=({})\n", values.concat()));
                }
            }
            _ => {}
        }
    }
    out
}

fn is_shell_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A simple value; numbers only if they are whole (in single precision, as in Nix).
fn shell_value(value: &Json) -> Option<String> {
    match value {
        Json::String(text) => Some(shell_quote(text)),
        Json::Null => Some("''".into()),
        Json::Bool(true) => Some("1".into()),
        Json::Bool(false) => Some(String::new()),
        Json::Number(text) => {
            let float: f64 = text.parse().ok()?;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "what the reference computes"
            )]
            let single = float as f32;
            if single.ceil() != single {
                return None;
            }
            // An `int` of 32 bits: whole numbers wrap, others saturate.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "what the reference computes"
            )]
            let int = match text.parse::<i64>() {
                Ok(int) => int as i32,
                Err(_) => match text.parse::<u64>() {
                    Ok(int) => int as i32,
                    Err(_) if float.abs() < 2_147_483_648.0 => float as i32,
                    Err(_) => i32::MIN,
                },
            };
            Some(int.to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_for_the_shell() {
        let Json::Object(attrs) = Json::parse(
            r#"{"a":"it's","b":[1,true,null,"x y"],"c":{"k'":1,"l":false},"d":1.5,"e":2.0,"f":[[]],
                "g-h":1,"i":{},"j":[],"k":3000000000,"l":null,"m":true}"#,
        )
        .unwrap() else {
            panic!()
        };
        assert_eq!(
            shell_attributes(&attrs),
            "declare a='it'\\''s'\n\
             declare -a b=(1 1 '' 'x y' )\n\
             declare -A c=(['k'\\''']=1 ['l']= )\n\
             declare e=2\n\
             declare -A i=()\n\
             declare -a j=()\n\
             declare k=-1294967296\n\
             declare l=''\n\
             declare m=1\n"
        );
    }

    #[test]
    fn strings_are_replaced() {
        let rewrites = InputRewrites::from([(b"/abc".to_vec(), b"/nix/store/x".to_vec())]);
        assert_eq!(
            rewrite(b"a=/abc:/abc", &rewrites),
            b"a=/nix/store/x:/nix/store/x"
        );
    }
}
