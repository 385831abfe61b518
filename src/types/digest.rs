//! The hash by which nodes compare what they know: 64-bit FNV-1a, its result spread by the finaliser
//! of SplitMix64.
//!
//! It is our own and frozen, because two programs of different versions compare its values on the
//! wire. Sets are compared by the sum of their members' digests, and that needs the finaliser:
//! of FNV-1a alone, values that differ in a low bit of a late byte differ by a few fixed amounts, which
//! cancel out in a sum. It is no defence against a forger: members of a cluster trust one another
//! with what is compared anyway.

/// A digest being made.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Digest {
    /// Of something of this kind: things of two kinds never look alike.
    #[must_use]
    pub fn new(kind: u8) -> Digest {
        Digest(0xCBF2_9CE4_8422_2325).bytes(&[kind])
    }

    /// Goes on with bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Digest {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01B3);
        }
        self
    }

    /// Goes on with a number: 8 bytes, little-endian.
    #[must_use]
    pub fn number(self, number: u64) -> Digest {
        self.bytes(&number.to_le_bytes())
    }

    /// The digest.
    #[must_use]
    pub fn finish(self) -> u64 {
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
