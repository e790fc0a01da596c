//! JSON, TOML and XML.

use crate::hashing::store_error;
use nivis_eval::{Activation, Builtin, Error, Machine, Result, Step};

/// The builtins of this module.
pub static TABLE: &[Builtin] = &[];

/// Turns a value into JSON. Local: the value.
pub(crate) fn json_text(_: &mut Machine, _: &mut Activation) -> Result<Step> {
    Err(Error::other("JSON"))
}

/// Appends a JSON string.
pub(crate) fn quote(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
    Ok(())
}

/// A JSON object in its normal form: without spaces, names sorted.
pub(crate) fn normal_json_object(text: &[u8]) -> Result<Vec<u8>> {
    Ok(nivis_store::json::Json::parse(text).map_err(store_error)?.to_text().into_bytes())
}
