#include "kube/config/credential_file.h"

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <stdexcept>
#include <system_error>

namespace pointsman::kube {

std::string ReadCredentialFile(const std::filesystem::path& file) {
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  const auto fail = [&file] {
    throw std::system_error(errno != 0 ? errno : EIO, std::generic_category(),
                            "cannot read " + file.string());
  };
  if (!in) fail();
  std::string text;
  char piece[16384];
  do {
    in.read(piece, sizeof piece);
    if (in.bad() || (in.gcount() == 0 && !in.eof())) fail();
    text.append(piece, static_cast<size_t>(in.gcount()));
    if (text.size() > kMaxCredentialFile) {
      throw std::invalid_argument(file.string() + " has more than 1 MiB");
    }
  } while (!in.eof());
  return text;
}

std::string TrimToken(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return "";
  return std::string(text.substr(begin, text.find_last_not_of(kSpace) - begin + 1));
}

bool IsSendableToken(std::string_view token) {
  return !token.empty() &&
         std::all_of(token.begin(), token.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace pointsman::kube
