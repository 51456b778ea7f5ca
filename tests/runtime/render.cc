// Renders conversations for chat_template_test.py. Each line of standard input is JSON: a template, messages, begin and
// end; each line of the output is the text and where its markers are, or why it was refused.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/chat_template.h"
#include "tilewise/error.h"

int main() {
  using tilewise::runtime::ChatTemplate;
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto asked = nlohmann::json::parse(line);
    nlohmann::json answer;
    const auto chat = ChatTemplate::recognise(asked.at("template").get<std::string>());
    if (!chat) {
      answer["refused"] = "unknown";
    } else {
      std::vector<tilewise::ChatMessage> messages;
      for (const auto& message : asked.at("messages")) messages.push_back({message.at("role"), message.at("content")});
      answer["family"] = to_string(chat->family());
      try {
        std::string text;
        for (const auto& part :
             chat->render(messages, asked.at("begin").get<std::string>(), asked.at("end").get<std::string>())) {
          text += part.text;
        }
        answer["text"] = text;
      } catch (const tilewise::Error& error) {
        answer["refused"] = error.what();
      }
    }
    std::cout << answer.dump() << std::endl;
  }
}
