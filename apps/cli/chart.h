// Line charts as PNG and SVG, both axes logarithmic.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "picture.h"

namespace tilewise::cli {

/// One line: a point for each x, positive numbers, in rising order of x.
struct Series {
  std::string name;
  Colour colour;
  std::vector<double> x, y;
};

struct Panel {
  std::string title;
  std::string x_axis;
  std::function<std::string(double)> x_text, y_text;  ///< What stands at a tick.
  std::vector<Series> series;
};

/// Panels side by side, with one legend for all: series of the same name have the same colour.
struct Chart {
  std::string title;
  std::string note;  ///< A line below: the machine.
  std::vector<Panel> panels;
};

/// Draws it into a file whose name ends in .png or .svg; the file appears whole or not at all. Throws Error as
/// expect_picture_path, and Error(invalid_argument) where there is no point to draw.
void write_chart(const Chart& chart, const std::string& path);

}  // namespace tilewise::cli
