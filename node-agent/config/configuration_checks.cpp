#include "node-agent/config/configuration_checks.h"

#include <stdexcept>
#include <string>

#include "kube/pointsman/settings_json.h"
#include "kube/text/json_text.h"
#include "kube/text/text.h"
#include "node-agent/config/kube_proxy_configuration.h"

namespace pointsman::testing {
namespace {

constexpr size_t kMaxError = 17'000;
constexpr size_t kMaxNotes = 52;
constexpr size_t kMaxNote = 512;

void CheckText(const std::string& message, size_t max_size) {
  if (!message.starts_with("config.conf: ")) throw std::logic_error("no file name in " + message);
  if (!text::IsValidUtf8(message)) throw std::logic_error("a message that is not UTF-8");
  if (message.size() > max_size) {
    throw std::logic_error("a message of " + std::to_string(message.size()) + " bytes");
  }
}

}  // namespace

void CheckKubeProxyConfiguration(std::string_view input) {
  agent::KubeProxyConfiguration configuration;
  try {
    configuration = agent::ParseKubeProxyConfiguration(input, "config.conf");
  } catch (const std::invalid_argument& error) {
    CheckText(error.what(), kMaxError);
    return;
  }
  if (configuration.notes.size() > kMaxNotes) throw std::logic_error("too many notes");
  for (const std::string& note : configuration.notes)
    CheckText(note, kMaxNote);
  text::JsonText(kube::ToJson(configuration.settings));
}

}  // namespace pointsman::testing
