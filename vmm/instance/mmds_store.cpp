// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/mmds_store.hpp"

#include "vmm/config/config_json.hpp"

namespace inox {

struct MmdsStore::Tree {
    nlohmann::json root{};
};

namespace {

using nlohmann::json;

Result<json> parse_object(std::string_view text) {
    auto parsed = read_json(text, SIZE_MAX, Quote::no); // whoever received the text has limited its size
    if (!parsed.problems.empty())
        return std::unexpected<Error>{std::move(parsed.problems.front())};
    if (!parsed.root.is_object())
        return fail(Errc::config_type, "the metadata is not a JSON object", "send an object");
    return std::move(parsed.root);
}

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

/// "a~1b" of a JSON pointer is the key "a/b".
std::string unescape(std::string_view token) {
    std::string out;
    for (std::size_t i = 0; i < token.size(); ++i)
        if (token[i] == '~' && i + 1 < token.size() && (token[i + 1] == '0' || token[i + 1] == '1'))
            out += token[++i] == '0' ? '~' : '/';
        else
            out += token[i];
    return out;
}

const json* step(const json& at, const std::string& token) {
    if (at.is_object()) {
        const auto found = at.find(token);
        return found == at.end() ? nullptr : &*found;
    }
    if (!at.is_array() || token.empty() || token.size() > 9 || token.find_first_not_of("0123456789") != token.npos)
        return nullptr;
    const auto index = std::stoul(token);
    return index < at.size() ? &at[index] : nullptr;
}

} // namespace

MmdsStore::MmdsStore(std::size_t limit) : limit_{limit} {}
MmdsStore::~MmdsStore() = default;

Result<void> MmdsStore::accept(Tree tree) {
    if (dump(tree.root).size() > limit_)
        return fail(Errc::no_resource, "the metadata is larger than it may be",
                    "raise --mmds-size-limit, or store less");
    tree_ = std::make_unique<Tree>(std::move(tree));
    return {};
}

Result<void> MmdsStore::put(std::string_view text) {
    auto root = TRY(parse_object(text));
    return accept({std::move(root)});
}

Result<void> MmdsStore::patch(std::string_view text) {
    if (!tree_)
        return fail(Errc::wrong_state, "there is no metadata to change yet", "PUT /mmds first");
    const auto change = TRY(parse_object(text));
    Tree changed = *tree_;
    changed.root.merge_patch(change);
    return accept(std::move(changed));
}

std::string MmdsStore::text() const { return tree_ ? dump(tree_->root) : "{}"; }

MmdsStore::Answer MmdsStore::read(std::string_view path, Format format) const {
    const json* at = tree_ ? &tree_->root : nullptr;
    while (at != nullptr && !path.empty() && path != "/") {
        path.remove_prefix(path.front() == '/' ? 1 : 0);
        const auto slash = std::min(path.find('/'), path.size());
        at = step(*at, unescape(path.substr(0, slash)));
        path.remove_prefix(slash);
    }
    if (at == nullptr)
        return {Status::not_found, {}};
    if (format == Format::json)
        return {Status::found, dump(*at)};
    if (at->is_string())
        return {Status::found, at->get<std::string>()};
    if (!at->is_object())
        return {Status::no_text, {}};
    std::string lines;
    for (const auto& [key, value] : at->items())
        lines += (lines.empty() ? "" : "\n") + key + (value.is_object() ? "/" : "");
    return {Status::found, std::move(lines)};
}

} // namespace inox
