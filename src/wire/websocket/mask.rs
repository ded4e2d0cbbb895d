//! The mask of a client's frames (RFC 6455 section 5.3).

/// A masking key, and how far into it the payload has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask([u8; 4]);

impl Mask {
    pub(super) fn new(key: [u8; 4]) -> Self {
        Self(key)
    }

    /// Masks or unmasks the next bytes of the payload, eight at a time.
    #[inline]
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let [a, b, c, d] = self.0;
        let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
        let mut words = bytes.chunks_exact_mut(8);
        for word in &mut words {
            let masked = u64::from_ne_bytes(word.try_into().unwrap_or_default()) ^ wide;
            word.copy_from_slice(&masked.to_ne_bytes());
        }
        let rest = words.into_remainder();
        for (byte, key) in rest.iter_mut().zip(self.0.iter().cycle()) {
            *byte ^= key;
        }
        self.0.rotate_left(rest.len() % 4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_cut_gives_what_the_rfc_says(
            key in any::<[u8; 4]>(),
            payload in prop::collection::vec(any::<u8>(), 0..100),
            sizes in prop::collection::vec(1..20_usize, 1..6),
        ) {
            let expected: Vec<u8> =
                payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]).collect();
            let (mut masked, mut mask) = (payload, Mask::new(key));
            let mut rest = &mut masked[..];
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at_mut((*size).min(rest.len()));
                mask.apply(piece);
                rest = after;
            }
            prop_assert_eq!(masked, expected);
        }
    }
}
