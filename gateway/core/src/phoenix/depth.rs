//! How deep a JSON text is nested, without going there.

/// Whether valid JSON nests arrays and objects more than `max` deep. Never recurses, so that no depth can hurt.
pub(super) fn is_deeper_than(text: &[u8], max: usize) -> bool {
    // Nearly every payload has fewer brackets in all than may be nested: one pass that the compiler vectorises.
    let openers = text.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    openers > max && nested_deeper_than(text, max)
}

fn nested_deeper_than(text: &[u8], max: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                if depth > max {
                    return true;
                }
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::is_deeper_than;

    #[test]
    fn the_limit_itself_is_taken() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_deeper_than(nested(128).as_bytes(), 128));
        assert!(is_deeper_than(nested(129).as_bytes(), 128));
        assert!(is_deeper_than(nested(1_000_000).as_bytes(), 128));
    }

    #[test]
    fn many_brackets_side_by_side_or_in_strings_are_not_deep() {
        let wide = format!("[{}[]]", "[],".repeat(1000));
        assert!(!is_deeper_than(wide.as_bytes(), 128));
        let quoted = format!("[\"\\\"{}\\\\\",{{}}]", "[{".repeat(1000));
        assert!(!is_deeper_than(quoted.as_bytes(), 128));
    }
}
