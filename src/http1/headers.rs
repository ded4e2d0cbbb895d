//! Headers to be sent, with their names as the program wrote them: some services compare them
//! letter by letter, and HTTP libraries write them in lower case.

use http::header::{HeaderName, HeaderValue};

#[derive(Debug, Clone, Default)]
pub(crate) struct Headers(Vec<Header>);

#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// In lower case.
    name: HeaderName,
    written: String,
    value: HeaderValue,
}

impl Header {
    /// Checks what HTTP allows; an error says what is wrong.
    pub(crate) fn new(name: &str, value: &str) -> Result<Self, &'static str> {
        let key =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| "not a name that http allows")?;
        let mut value = HeaderValue::from_str(value).map_err(|_| "not a value that http allows")?;
        value.set_sensitive(true);
        Ok(Self { name: key, written: name.into(), value })
    }

    /// In lower case.
    pub(crate) fn name(&self) -> &HeaderName {
        &self.name
    }

    pub(crate) fn value(&self) -> &HeaderValue {
        &self.value
    }
}

impl Headers {
    /// Replaces what there is of the same name.
    pub(crate) fn set(&mut self, header: Header) {
        self.remove(&header.name);
        self.0.push(header);
    }

    pub(crate) fn append(&mut self, header: Header) {
        self.0.push(header);
    }

    pub(crate) fn remove(&mut self, name: &HeaderName) {
        self.0.retain(|header| header.name != name);
    }

    pub(crate) fn get(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.0.iter().find(|header| header.name == name).map(|header| &header.value)
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Header> {
        self.0.iter()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|header| header.written.as_str())
    }

    /// Appends each as a line.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        for header in &self.0 {
            line(out, &header.written, header.value.as_bytes());
        }
    }
}

/// One line of a head.
pub(crate) fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, b"\r\n"] {
        out.extend_from_slice(part);
    }
}
