// Horizontal bars as PNG and SVG.
#pragma once

#include <string>
#include <vector>

namespace tilewise::cli {

/// From 0 to `best`, with a mark at `median`; both are shares, 1 being the whole width.
struct Bar {
  std::string name;
  double best, median;
  std::string text;  ///< Behind the bar.
};

struct BarGroup {
  std::string title;
  std::vector<Bar> bars;
};

struct BarChart {
  std::string title;
  std::string axis;  ///< What the shares are of.
  std::vector<BarGroup> groups;
};

/// Draws it into a file whose name ends in .png or .svg. Throws Error as write_drawing.
void write_bars(const BarChart& chart, const std::string& path);

}  // namespace tilewise::cli
