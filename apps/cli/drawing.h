// Lines and text by Cairo, written as PNG and SVG.
#pragma once

#include <cairo.h>

#include <functional>
#include <string>

#include "picture.h"

namespace tilewise::cli {

inline constexpr Colour kInk{40, 40, 40}, kFaint{225, 225, 225};

enum class Align { left, middle, right };

/// The text stands on (x, y).
void draw_text(cairo_t* to, double x, double y, const std::string& text, Align align = Align::left);
void draw_line(cairo_t* to, double x1, double y1, double x2, double y2);
void set_colour(cairo_t* to, Colour colour);

/// A white ground with a title; leaves the ink and the usual font set.
void draw_title(cairo_t* to, const std::string& title);

/// Draws into a file whose name ends in .png or .svg; the file appears whole or not at all. Throws Error as
/// expect_picture_path, and Error(io) where it cannot be written.
void write_drawing(const std::string& path, double width, double height, const std::function<void(cairo_t*)>& draw);

}  // namespace tilewise::cli
