//! How much a thing costs, from what several numbers of it cost.

/// The slope of the straight line that lies closest to the points (number, bytes).
///
/// The first point is left out where there are enough others: what a process takes for its very first work it takes once.
pub(super) fn bytes_each(points: &[(usize, u64)]) -> f64 {
    let points = if points.len() > 2 { &points[1..] } else { points };
    let count = points.len().max(1) as f64;
    let mean_number = points.iter().map(|(number, _)| *number as f64).sum::<f64>() / count;
    let mean_bytes = points.iter().map(|(_, bytes)| *bytes as f64).sum::<f64>() / count;
    let (mut rise, mut run) = (0.0, 0.0);
    for (number, bytes) in points {
        let distance = *number as f64 - mean_number;
        rise += distance * (*bytes as f64 - mean_bytes);
        run += distance * distance;
    }
    rise / run
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_found_again_and_its_first_point_does_not_matter() {
        assert_eq!(bytes_each(&[(0, 10), (1000, 500_010)]), 500.0);
        assert_eq!(
            bytes_each(&[(0, 0), (10, 7_000), (20, 8_000), (30, 9_000)]),
            100.0
        );
    }

    #[test]
    fn points_beside_the_line_are_evened_out() {
        let points = [(0, 0), (10, 1_100), (20, 1_900), (30, 3_100), (40, 3_900)];
        let each = bytes_each(&points);
        assert!((each - 96.0).abs() < 0.01, "{each}");
    }
}
