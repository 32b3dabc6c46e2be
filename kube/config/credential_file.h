// A small file with a certificate, a key, a token or a kubeconfig.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace pointsman::kube {

inline constexpr size_t kMaxCredentialFile = size_t{1} << 20;

// The whole of `file`. Throws std::system_error when it cannot be read, std::invalid_argument when
// it has more than kMaxCredentialFile bytes: nothing we are given is larger, and a pipe or a device
// has no end. The message names the file.
std::string ReadCredentialFile(const std::filesystem::path& file);

// Without the white space around it, as a token is kept in a file and sent in a header.
std::string TrimToken(std::string_view text);

// Whether `token` can be sent: it is not empty and has no blank, control or other character that a
// header cannot carry (RFC 6750, b64token, and what servers accept beyond it).
bool IsSendableToken(std::string_view token);

}  // namespace pointsman::kube
