//! Server-sent events: bytes that are cut anywhere in, the data of whole events out.
//!
//! Lines end with a line feed, a carriage return or both; `data` lines of one event are joined; comments and the other fields
//! (`event`, `id`, `retry`) say nothing to us. An event that lies whole in one chunk is read where it lies; what is torn between
//! two is put together in buffers that are kept.
//!
//! # Bounds
//!
//! A line under way and the data of its event take at most the bound that [`Events`] was made with, together.

#[cfg(test)]
mod tests;

use memchr::memchr2;

use crate::model::provider::{UpstreamError, transport::TAIL_BYTES_KEPT};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Finds the events of one stream.
pub(super) struct Events {
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The data so far of an event whose blank line has not come yet.
    data: Vec<u8>,
    has_data: bool,
    /// Whether a line feed now would belong to the carriage return before it.
    after_return: bool,
    /// Whether the next line is the first, which may start with a byte order mark.
    at_start: bool,
    bytes_max: usize,
}

impl Events {
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self {
            line: Vec::new(),
            data: Vec::new(),
            has_data: false,
            after_return: false,
            at_start: true,
            bytes_max,
        }
    }

    /// Hands the data of each event that `bytes` completes to `tell`.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Garbage`] beyond the bound, and what `tell` fails of. Both are terminal.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        mut tell: impl FnMut(&[u8]) -> Result<(), UpstreamError>,
    ) -> Result<(), UpstreamError> {
        // The data of the present event while it is one line of these bytes.
        let mut here: Option<&[u8]> = None;
        while !bytes.is_empty() {
            if std::mem::take(&mut self.after_return)
                && let Some(rest) = bytes.strip_prefix(b"\n")
            {
                bytes = rest;
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', bytes) else { break };
            let line = &bytes[..end];
            self.after_return = bytes[end] == b'\r';
            bytes = &bytes[end + 1..];
            self.check_room(line.len() + here.map_or(0, <[u8]>::len))?;
            if self.line.is_empty() {
                let line = self.past_mark(line);
                if line.is_empty() {
                    match here.take() {
                        Some(data) => tell(data)?,
                        None => self.dispatch(&mut tell)?,
                    }
                } else if let Some(data) = data_of(line) {
                    if self.has_data || here.is_some() {
                        self.keep(&mut here);
                        self.add(data);
                    } else {
                        here = Some(data);
                    }
                }
            } else {
                // Begun in an earlier chunk, so nothing before it lies here.
                let mut whole = std::mem::take(&mut self.line);
                whole.extend_from_slice(line);
                if let Some(data) = data_of(self.past_mark(&whole)) {
                    self.add(data);
                }
                self.line = kept(whole);
            }
        }
        self.keep(&mut here);
        self.check_room(bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// The stream is over: hands out what lacks its blank line, and even its line's end.
    ///
    /// # Errors
    ///
    /// What `tell` fails of.
    pub(super) fn end(
        &mut self,
        mut tell: impl FnMut(&[u8]) -> Result<(), UpstreamError>,
    ) -> Result<(), UpstreamError> {
        let line = std::mem::take(&mut self.line);
        if let Some(data) = data_of(self.past_mark(&line)) {
            self.add(data);
        }
        self.dispatch(&mut tell)
    }

    fn check_room(&self, more: usize) -> Result<(), UpstreamError> {
        if self.line.len() + self.data.len() + more > self.bytes_max {
            return Err(UpstreamError::Garbage(format!("an event of more than {} bytes", self.bytes_max)));
        }
        Ok(())
    }

    fn past_mark<'a>(&mut self, line: &'a [u8]) -> &'a [u8] {
        if std::mem::take(&mut self.at_start) { line.strip_prefix(BOM).unwrap_or(line) } else { line }
    }

    /// Moves the data of an unfinished event out of the chunk that it lies in.
    fn keep(&mut self, here: &mut Option<&[u8]>) {
        if let Some(data) = here.take() {
            self.add(data);
        }
    }

    fn add(&mut self, data: &[u8]) {
        if std::mem::replace(&mut self.has_data, true) {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(data);
    }

    fn dispatch(
        &mut self,
        tell: &mut impl FnMut(&[u8]) -> Result<(), UpstreamError>,
    ) -> Result<(), UpstreamError> {
        if !std::mem::take(&mut self.has_data) {
            return Ok(());
        }
        let data = std::mem::take(&mut self.data);
        let told = tell(&data);
        self.data = kept(data);
        told
    }
}

/// The buffer for the next torn piece, unless it once held a huge one.
fn kept(mut buffer: Vec<u8>) -> Vec<u8> {
    if buffer.capacity() > TAIL_BYTES_KEPT {
        return Vec::new();
    }
    buffer.clear();
    buffer
}

/// The value of a line that is a `data` field.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    match rest.first() {
        None => Some(rest),
        Some(b':') => Some(rest[1..].strip_prefix(b" ").unwrap_or(&rest[1..])),
        Some(_) => None,
    }
}
