//! The XML that `builtins.toXML` and `--xml` print.

/// Writes a document of nested elements, two spaces of indentation per level.
///
/// The text inside elements is always empty: values travel in attributes.
#[derive(Debug)]
pub struct Writer {
    out: Vec<u8>,
    open: Vec<&'static str>,
}

impl Default for Writer {
    fn default() -> Self {
        Self::new()
    }
}

impl Writer {
    /// A document with its declaration line.
    pub fn new() -> Self {
        Writer {
            out: b"<?xml version='1.0' encoding='utf-8'?>\n".to_vec(),
            open: Vec::new(),
        }
    }

    /// Opens an element; attributes are written in the order given (C++ Nix sorts them by name).
    pub fn open(&mut self, name: &'static str, attributes: &[(&str, &[u8])]) {
        self.start(name, attributes);
        self.out.extend_from_slice(b">\n");
        self.open.push(name);
    }

    /// Closes the element opened last; does nothing when none is open.
    pub fn close(&mut self) {
        if let Some(name) = self.open.pop() {
            self.indent();
            self.out.extend_from_slice(b"</");
            self.out.extend_from_slice(name.as_bytes());
            self.out.extend_from_slice(b">\n");
        }
    }

    /// Writes an element without content.
    pub fn empty(&mut self, name: &'static str, attributes: &[(&str, &[u8])]) {
        self.start(name, attributes);
        self.out.extend_from_slice(b" />\n");
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is written, which is never so: the declaration comes first.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Closes what is still open and gives the document.
    pub fn finish(mut self) -> Vec<u8> {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }

    fn indent(&mut self) {
        let width = self.open.len() * 2;
        self.out.resize(self.out.len() + width, b' ');
    }

    fn start(&mut self, name: &str, attributes: &[(&str, &[u8])]) {
        self.indent();
        self.out.push(b'<');
        self.out.extend_from_slice(name.as_bytes());
        for (key, value) in attributes {
            self.out.push(b' ');
            self.out.extend_from_slice(key.as_bytes());
            self.out.extend_from_slice(b"=\"");
            escape_into(value, &mut self.out);
            self.out.push(b'"');
        }
    }
}

/// Appends text as the inside of a double-quoted attribute. Newlines are escaped too, or a reader would turn them into spaces.
pub fn escape_into(text: &[u8], out: &mut Vec<u8>) {
    for byte in text {
        match byte {
            b'"' => out.extend_from_slice(b"&quot;"),
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'\n' => out.extend_from_slice(b"&#xA;"),
            _ => out.push(*byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn document() {
        let mut w = Writer::new();
        w.open("expr", &[]);
        w.open("list", &[]);
        w.empty("float", &[("value", b"1.5")]);
        w.empty("string", &[("value", b"a\"<b>&\n\t'")]);
        let text = String::from_utf8(w.finish()).unwrap();
        assert_eq!(
            text,
            "<?xml version='1.0' encoding='utf-8'?>\n<expr>\n  <list>\n    <float value=\"1.5\" />\n    \
             <string value=\"a&quot;&lt;b&gt;&amp;&#xA;\t'\" />\n  </list>\n</expr>\n"
        );
    }
}
