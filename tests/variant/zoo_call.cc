#include "tests/variant/zoo_call.h"

#include <cctype>
#include <sstream>
#include <stdexcept>

#include "tilewise/zoo_entry.h"

namespace tilewise {
namespace {

zoo::Argument read_argument(std::istringstream& text) {
  if ((text >> std::ws).peek() != '[') {
    double number = 0;
    if (!(text >> number)) throw std::logic_error("not a number: " + text.str());
    return number;
  }
  std::vector<std::int32_t> list;
  for (char separator = static_cast<char>(text.get()); separator != ']'; text >> separator) {
    if ((text >> std::ws).peek() == ']') continue;
    if (!text || (separator != '[' && separator != ',')) throw std::logic_error("not a list: " + text.str());
    text >> list.emplace_back();
  }
  return list;
}

}  // namespace

std::string name_of_call(const std::string& call) { return call.substr(0, call.find('(')); }

Variant variant_of_call(const std::string& call) {
  const zoo::Entry* entry = zoo::find(name_of_call(call));
  if (entry == nullptr) throw std::logic_error("no such variant: " + call);
  std::istringstream text(call.substr(name_of_call(call).size()));
  std::vector<zoo::Argument> arguments;
  for (char separator = static_cast<char>(text.get()); separator != ')'; text >> separator) {
    if ((text >> std::ws).peek() == ')') continue;
    if (!text || (separator != '(' && separator != ',')) throw std::logic_error("not a call: " + call);
    arguments.push_back(read_argument(text));
  }
  for (std::size_t i = arguments.size(); i < entry->arguments.size() && entry->arguments[i].has_default; ++i) {
    arguments.push_back(entry->arguments[i].default_value);
  }
  if (arguments.size() != entry->arguments.size()) throw std::logic_error("wrong number of arguments: " + call);
  return entry->make(arguments);
}

}  // namespace tilewise
