//! Pictures made of block characters.

const EIGHTHS_UP: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const EIGHTHS_RIGHT: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

/// Draws values as columns `height` lines high, the highest line first; `full`
/// is the value that fills all of it. What is not zero is never drawn as nothing.
pub(crate) fn columns(values: &[u64], full: u64, height: usize) -> Vec<String> {
    let levels: Vec<usize> = values
        .iter()
        .map(|&value| eighths(value, full, height))
        .collect();
    (0..height)
        .rev()
        .map(|line| {
            levels
                .iter()
                .map(|level| EIGHTHS_UP[level.saturating_sub(line * 8).min(8)])
                .collect()
        })
        .collect()
}

/// Draws a value as a bar at most `width` columns long, padded to that width.
pub(crate) fn bar(value: u64, full: u64, width: usize) -> String {
    let level = eighths(value, full, width);
    (0..width)
        .map(|column| EIGHTHS_RIGHT[level.saturating_sub(column * 8).min(8)])
        .collect()
}

fn eighths(value: u64, full: u64, cells: usize) -> usize {
    if value == 0 || full == 0 {
        return 0;
    }
    let share = (value as f64 / full as f64).min(1.0);
    ((share * (cells * 8) as f64).round() as usize).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_rise_by_eighths() {
        assert_eq!(columns(&[0, 1, 50, 100], 100, 1), [" ▁▄█"]);
        assert_eq!(columns(&[0, 25, 50, 75, 100], 100, 2), ["   ▄█", " ▄███"]);
    }

    #[test]
    fn bars_have_their_width_whatever_the_value() {
        assert_eq!(bar(50, 100, 4), "██  ");
        assert_eq!(bar(1, u64::MAX, 4), "▏   ");
        assert_eq!(bar(u64::MAX, 1, 2), "██");
        assert_eq!(bar(3, 0, 2), "  ");
    }
}
