//! The mask every byte of a client comes under.

/// Takes the mask off `data`, whose first byte stands `position` bytes into its frame's payload.
pub fn unmask(data: &mut [u8], key: [u8; 4], position: usize) {
    let mut rotated = key;
    rotated.rotate_left(position % 4);
    let [a, b, c, d] = rotated;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = data.chunks_exact_mut(8);
    for word in &mut words {
        let masked = u64::from_ne_bytes(word.try_into().expect("chunks_exact_mut(8) gives eight bytes"));
        word.copy_from_slice(&(masked ^ wide).to_ne_bytes());
    }
    for (byte, key) in words.into_remainder().iter_mut().zip(rotated.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unmasking_is_the_xor_of_rfc_6455(mut data: Vec<u8>, key: [u8; 4], position in 0_usize..100) {
            let plain: Vec<u8> = data.iter().enumerate().map(|(i, byte)| byte ^ key[(position + i) % 4]).collect();
            super::unmask(&mut data, key, position);
            prop_assert_eq!(data, plain);
        }
    }
}
