#include "drawing.h"

#include <cairo-svg.h>
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "new_file.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

cairo_status_t append(void* output, const unsigned char* bytes, unsigned int count) {
  return std::fwrite(bytes, 1, count, static_cast<NewFile*>(output)->file()) == count ? CAIRO_STATUS_SUCCESS
                                                                                      : CAIRO_STATUS_WRITE_ERROR;
}

}  // namespace

void draw_text(cairo_t* to, double x, double y, const std::string& text, Align align) {
  cairo_text_extents_t extents;
  cairo_text_extents(to, text.c_str(), &extents);
  const double shift = align == Align::left ? 0 : align == Align::middle ? 0.5 : 1.0;
  cairo_move_to(to, x - shift * extents.x_advance, y);
  cairo_show_text(to, text.c_str());
}

void set_colour(cairo_t* to, Colour colour) {
  cairo_set_source_rgb(to, colour.red / 255.0, colour.green / 255.0, colour.blue / 255.0);
}

void draw_line(cairo_t* to, double x1, double y1, double x2, double y2) {
  cairo_move_to(to, x1, y1);
  cairo_line_to(to, x2, y2);
  cairo_stroke(to);
}

void draw_title(cairo_t* to, const std::string& title) {
  cairo_set_source_rgb(to, 1, 1, 1);
  cairo_paint(to);
  set_colour(to, kInk);
  cairo_select_font_face(to, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_BOLD);
  cairo_set_font_size(to, 15);
  draw_text(to, 20, 26, title);
  cairo_select_font_face(to, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(to, 12);
}

void write_drawing(const std::string& path, double width, double height, const std::function<void(cairo_t*)>& draw) {
  expect_picture_path(path);
  constexpr int kScale = 2;  // pixels of a PNG for each unit, for fine screens
  const bool is_png = extension_of(path) == ".png";
  NewFile output(path);
  const auto free_surface = [](cairo_surface_t* surface) { cairo_surface_destroy(surface); };
  const std::unique_ptr<cairo_surface_t, decltype(free_surface)> surface(
      is_png ? cairo_image_surface_create(CAIRO_FORMAT_RGB24, static_cast<int>(width) * kScale,
                                          static_cast<int>(height) * kScale)
             : cairo_svg_surface_create_for_stream(append, &output, width, height),
      free_surface);
  cairo_t* to = cairo_create(surface.get());
  if (is_png) cairo_scale(to, kScale, kScale);
  draw(to);
  cairo_status_t status = cairo_status(to);
  cairo_destroy(to);
  if (is_png && status == CAIRO_STATUS_SUCCESS)
    status = cairo_surface_write_to_png_stream(surface.get(), append, &output);
  cairo_surface_finish(surface.get());
  if (status == CAIRO_STATUS_SUCCESS) status = cairo_surface_status(surface.get());
  if (status != CAIRO_STATUS_SUCCESS)
    throw Error(ErrorCode::io, fmt::format("{}: could not be written ({})", path, cairo_status_to_string(status)));
  output.publish();
}

}  // namespace tilewise::cli
