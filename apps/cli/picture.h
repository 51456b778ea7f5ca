// Pictures of grids of coloured cells: in the terminal, as PNG and as SVG.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace tilewise::cli {

struct Colour {
  std::uint8_t red, green, blue;
};

/// What a cell value means: how it is drawn and named.
struct CellStyle {
  std::string name;   // "empty"
  std::string glyph;  // one column wide in a terminal
  Colour colour;
};

/// Rows of cells, each the number of its style.
struct Grid {
  std::int64_t rows = 0, columns = 0;
  std::vector<std::uint8_t> cells;  // [rows, columns]
  std::vector<CellStyle> styles;
  std::string title;
  std::string row_axis, column_axis;  // "queries", "keys"

  std::uint8_t& at(std::int64_t row, std::int64_t column) {
    return cells[static_cast<std::size_t>(row * columns + column)];
  }
  std::uint8_t at(std::int64_t row, std::int64_t column) const {
    return cells[static_cast<std::size_t>(row * columns + column)];
  }
};

/// Lines of glyphs with a legend.
std::string terminal_picture(const Grid& grid);

/// Writes the grid to a file whose name ends in .png or .svg; the file appears whole or not at all. Throws Error on any
/// other name (invalid_argument) and where it cannot be written (io).
void write_picture(const Grid& grid, const std::string& path);

}  // namespace tilewise::cli
