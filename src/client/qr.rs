//! A QR code out of characters, two of its rows to a line.

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};

/// The lines of the code of `text`, light on dark as most terminals are; none where it is too wide for `columns`, or the text too long.
pub fn lines(text: &str, columns: usize) -> Vec<String> {
    // Little correction: a screen has no scratches, and a smaller code is easier to photograph.
    let Ok(code) = QrCode::with_error_correction_level(text, EcLevel::L) else { return Vec::new() };
    if code.width() + 2 * QUIET > columns {
        return Vec::new();
    }
    let image = code.render().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).quiet_zone(true).build();
    image.lines().map(str::to_owned).collect()
}

/// Empty modules around it, which readers need.
const QUIET: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_fits_the_terminal_or_is_not_drawn() {
        let text = format!("secchat://[2001:db8::1]:7443/?pin={}&name=s1&room=lab", "ab".repeat(32));
        let drawn = lines(&text, 80);
        let width = drawn[0].chars().count();
        assert!(width <= 80 && drawn.iter().all(|line| line.chars().count() == width), "{width}");
        assert!(drawn.len() * 2 >= width && drawn.len() * 2 <= width + 1);
        assert!(lines(&text, width - 1).is_empty());
        assert!(lines(&"x".repeat(9000), 9999).is_empty());
    }
}
