// The precompiled header of the product: what nearly all files need and is slow to parse.
// cpprestsdk and boost stay out on purpose: only kube/http includes them.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>
#include <spdlog/spdlog.h>

// spdlog calls this template of fmt for every line with arguments. Without the declaration each
// file that logs compiles all of fmt's formatting, two seconds of CPU. pch.cpp has the one
// instance.
extern template void fmt::detail::vformat_to<char>(buffer<char>&, basic_string_view<char>,
                                                   basic_format_args<FMT_BUFFER_CONTEXT(char)>,
                                                   locale_ref);
