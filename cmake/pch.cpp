// The target that owns the precompiled header of the product, and what is compiled once for all.
#include "cmake/pch.h"

template void fmt::detail::vformat_to<char>(buffer<char>&, basic_string_view<char>,
                                            basic_format_args<FMT_BUFFER_CONTEXT(char)>,
                                            locale_ref);
