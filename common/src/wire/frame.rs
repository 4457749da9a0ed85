//! Frames: `length u32` big-endian, then that many bytes. A pure parser that is fed slices.

use crate::limits::FRAME_MAX_BYTES;

/// Bytes in front of each frame body.
pub const FRAME_HEAD_BYTES: usize = 4;

/// Why a stream holds no frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// A length over the bound: the peer speaks another protocol or is hostile.
    #[error("read a frame: length {0} exceeds 262144 bytes; the peer speaks another protocol")]
    TooLong(usize),
    /// A frame without even a version byte.
    #[error("read a frame: length 0; the peer speaks another protocol")]
    Empty,
    /// A body too large to send.
    #[error("write a frame: {0} bytes exceed 262144; split the message")]
    BodyTooLong(usize),
}

/// Puts the head before a frame body.
///
/// # Errors
/// [`FrameError::BodyTooLong`] over [`FRAME_MAX_BYTES`], [`FrameError::Empty`] for no body.
pub fn frame(body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= FRAME_MAX_BYTES)
        .ok_or(FrameError::BodyTooLong(body.len()))?;
    if body.is_empty() {
        return Err(FrameError::Empty);
    }
    let mut bytes = Vec::with_capacity(FRAME_HEAD_BYTES + body.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(body);
    Ok(bytes)
}

/// Cuts a byte stream into frame bodies. Holds at most one frame; an idle parser holds no buffer.
#[derive(Debug, Default)]
pub struct FrameParser {
    pending: Vec<u8>,
}

impl FrameParser {
    /// Takes bytes from the front of `input` until one frame is whole; returns its body. `None` when
    /// `input` is used up before that.
    ///
    /// # Errors
    /// A length that is 0 or over the bound, before a byte of the body is stored.
    pub fn take(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameError> {
        loop {
            let want = match self.pending.first_chunk::<FRAME_HEAD_BYTES>() {
                None => FRAME_HEAD_BYTES,
                Some(head) => FRAME_HEAD_BYTES + body_length(*head)?,
            };
            if self.pending.len() == want && want > FRAME_HEAD_BYTES {
                let mut whole = std::mem::take(&mut self.pending);
                whole.drain(..FRAME_HEAD_BYTES);
                return Ok(Some(whole));
            }
            if input.is_empty() {
                return Ok(None);
            }
            let (now, later) = input.split_at(input.len().min(want - self.pending.len()));
            self.pending.extend_from_slice(now);
            *input = later;
        }
    }

    /// Whether the stream stands between two frames: an end here is a clean end.
    #[must_use]
    pub fn is_between_frames(&self) -> bool {
        self.pending.is_empty()
    }
}

fn body_length(head: [u8; FRAME_HEAD_BYTES]) -> Result<usize, FrameError> {
    match usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX) {
        0 => Err(FrameError::Empty),
        length if length > FRAME_MAX_BYTES => Err(FrameError::TooLong(length)),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_stream_is_cut() {
        let stream: Vec<u8> =
            [&b"a"[..], b"bcd", &[7; 1000]].iter().flat_map(|b| frame(b).expect("frame")).collect();
        for piece in [1, 2, 3, 5, 700, 5000] {
            let (mut parser, mut found) = (FrameParser::default(), Vec::new());
            for mut part in stream.chunks(piece) {
                while let Some(body) = parser.take(&mut part).expect("good stream") {
                    found.push(body);
                }
            }
            assert_eq!(found, [b"a".to_vec(), b"bcd".to_vec(), vec![7; 1000]]);
            assert!(parser.is_between_frames());
        }
    }

    #[test]
    fn impossible_lengths_are_refused_before_they_are_stored() {
        for (head, want) in [
            ([0, 0, 0, 0], FrameError::Empty),
            ([0xff; 4], FrameError::TooLong(0xffff_ffff)),
            ([0, 4, 0, 1], FrameError::TooLong(FRAME_MAX_BYTES + 1)),
        ] {
            assert_eq!(FrameParser::default().take(&mut &head[..]), Err(want));
        }
        assert_eq!(frame(&[]), Err(FrameError::Empty));
        let long = vec![0; FRAME_MAX_BYTES + 1];
        assert_eq!(frame(&long), Err(FrameError::BodyTooLong(long.len())));
    }
}
