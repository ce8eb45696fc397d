// SPDX-License-Identifier: Apache-2.0
// The metadata of this guest: one JSON object, set by the API or a file, read by the guest.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "devices/metadata_source.hpp"
#include "vmm/base/error.hpp"

namespace inox {

/// On the loop's thread.
class MmdsStore final : public devices::MetadataSource {
public:
    static constexpr std::size_t default_limit = 51200;

    explicit MmdsStore(std::size_t limit = default_limit);
    ~MmdsStore() override;

    /// Bytes of JSON text it may hold from now on.
    void set_limit(std::size_t limit) { limit_ = limit; }
    /// Replaces everything. config_syntax, config_type; no_resource above the limit. Nothing changes then.
    Result<void> put(std::string_view json);
    /// JSON merge patch (RFC 7396). wrong_state before the first put().
    Result<void> patch(std::string_view json);
    /// "{}" before the first put().
    [[nodiscard]] std::string text() const;

    [[nodiscard]] Answer read(std::string_view path, Format format) const override;

private:
    struct Tree;
    Result<void> accept(Tree tree);

    std::size_t limit_;
    std::unique_ptr<Tree> tree_;
};

} // namespace inox
