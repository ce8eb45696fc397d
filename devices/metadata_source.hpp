// SPDX-License-Identifier: Apache-2.0
// What a guest may read from the metadata service, without the way it asks.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace inox::devices {

/// On the loop's thread.
class MetadataSource {
public:
    enum class Format : std::uint8_t {
        json,
        imds, ///< text: a string as it is, an object as its keys, one a line, those of objects with '/'
    };
    enum class Status : std::uint8_t {
        found,
        not_found,
        no_text, ///< Format::imds asked for a value that has no text form, such as a number
    };
    struct Answer {
        Status status{Status::not_found};
        std::string text{};
    };

    MetadataSource() = default;
    MetadataSource(const MetadataSource&) = delete;
    MetadataSource& operator=(const MetadataSource&) = delete;
    virtual ~MetadataSource() = default;
    /// `path`: "/latest/meta-data/", a JSON pointer whose trailing '/' does not count.
    [[nodiscard]] virtual Answer read(std::string_view path, Format format) const = 0;
};

} // namespace inox::devices
