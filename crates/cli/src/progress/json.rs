//! Events in the form of Nix's `internal-json` log format.

use nivis::diagnostic::Span;
use nivis_store::build::events::{Event, Field, Level};
use nivis_store::json::Json;

fn number(n: impl std::fmt::Display) -> Json {
    Json::Number(n.to_string())
}

fn line(entries: Vec<(&str, Json)>) -> String {
    format!("@nix {}", Json::object(entries).to_text())
}

/// A message.
pub fn message(level: Level, text: &str) -> String {
    line(vec![
        ("action", Json::string("msg")),
        ("level", number(level as u8)),
        ("msg", Json::string(text)),
    ])
}

/// An error; `raw` is its text without marks and colours.
pub fn error(text: &str, raw: &str, place: Option<&Span>) -> String {
    let count = |n: fn(&Span) -> u32| place.map_or(Json::Null, |span| number(n(span)));
    line(vec![
        ("action", Json::string("msg")),
        ("level", number(Level::Error as u8)),
        ("msg", Json::string(text)),
        ("raw_msg", Json::string(raw)),
        ("line", count(|span| span.line)),
        ("column", count(|span| span.column)),
        (
            "file",
            place.map_or(Json::Null, |span| Json::string(span.location())),
        ),
    ])
}

/// Any event that is no message.
pub fn event(event: &Event) -> String {
    let with_fields = |mut entries: Vec<(&'static str, Json)>, fields: &[Field]| {
        if !fields.is_empty() {
            let fields = fields.iter().map(|f| match f {
                Field::Int(n) => number(n),
                Field::Text(text) => Json::string(text),
            });
            entries.push(("fields", Json::Array(fields.collect())));
        }
        line(entries)
    };
    match event {
        Event::Start {
            id,
            parent,
            level,
            kind,
            text,
            fields,
        } => with_fields(
            vec![
                ("action", Json::string("start")),
                ("id", number(id)),
                ("level", number(*level as u8)),
                ("type", number(*kind as u16)),
                ("text", Json::string(text)),
                ("parent", number(parent)),
            ],
            fields,
        ),
        Event::Stop { id } => line(vec![("action", Json::string("stop")), ("id", number(id))]),
        Event::Result { id, kind, fields } => with_fields(
            vec![
                ("action", Json::string("result")),
                ("id", number(id)),
                ("type", number(*kind as u16)),
            ],
            fields,
        ),
        Event::Message { level, text } => message(*level, text),
        Event::Finding { text } => message(Level::Error, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nivis_store::build::events::{ActivityKind, ResultKind};

    #[test]
    fn lines_are_those_of_the_protocol() {
        let start = Event::Start {
            id: 7,
            parent: 0,
            level: Level::Info,
            kind: ActivityKind::Build,
            text: "building '/nix/store/x.drv'".into(),
            fields: vec!["/nix/store/x.drv".into(), "".into(), 1.into(), 1.into()],
        };
        assert_eq!(
            event(&start),
            r#"@nix {"action":"start","fields":["/nix/store/x.drv","",1,1],"id":7,"level":3,"parent":0,"text":"building '/nix/store/x.drv'","type":105}"#
        );
        let line = Event::Result {
            id: 7,
            kind: ResultKind::BuildLogLine,
            fields: vec!["a \"b\"".into()],
        };
        assert_eq!(
            event(&line),
            r#"@nix {"action":"result","fields":["a \"b\""],"id":7,"type":101}"#
        );
        assert_eq!(
            event(&Event::Stop { id: 7 }),
            r#"@nix {"action":"stop","id":7}"#
        );
    }
}
