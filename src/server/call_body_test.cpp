#include "server/call_body.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "httptext/multipart.h"

namespace keelback::server {
namespace {

using ::testing::HasSubstr;

Request upload_with(std::string type, std::string body) {
  Request request;
  request.has_body = true;
  request.body = std::move(body);
  const auto set = [&](Header header, std::string value) {
    request.seen |= 1U << static_cast<int>(header);
    request.values[static_cast<std::size_t>(header)] = std::move(value);
  };
  set(Header::kContentType, std::move(type));
  return request;
}
void add(Request& request, Header header, std::string value) {
  request.seen |= 1U << static_cast<int>(header);
  request.values[static_cast<std::size_t>(header)] = std::move(value);
}
constexpr const char* kOctets = "application/octet-stream";
constexpr const char* kForm = "multipart/form-data; boundary=\"b b\"";

std::string form(std::string_view parts) {
  std::string text(parts);
  for (std::size_t at = 0; (at = text.find('\n', at)) != text.npos; at += 2) text.insert(at, "\r");
  return text;
}

Outcome returned(Attachments attachments) {
  Outcome outcome;
  outcome.payload = R"({"$attachment":"a"})";
  outcome.attachments = std::move(attachments);
  return outcome;
}

// Goal: what a browser, curl and our own client send comes out part by part, bytes as they are,
// line ends and things that look like boundaries included.
TEST(CallBody, TakesAFormApart) {
  Request request = upload_with(kForm, form("preamble\n"
                                            "--b b\n"
                                            "Content-Disposition: form-data; name=\"arguments\"\n"
                                            "Content-Type: application/json\n"
                                            "\n"
                                            "{\"scale\":2}\n"
                                            "--b b  \n"
                                            "content-disposition: form-data; filename=\"x.png\"; "
                                            "name=\"a%22b\\\\c\"\n"
                                            "\n"
                                            "line\n\n--b\n-b b\n"
                                            "--b b\n"
                                            "Content-Disposition: form-data; name=array\n"
                                            "Keelback-Dtype: float32\n"
                                            "Keelback-Shape: 2, 3\n"
                                            "\n"
                                            "\n"
                                            "--b b--\nepilogue"));
  Call call;
  ASSERT_EQ(body_kind(request), BodyKind::kMultipart);
  const auto wrong = read_call_body(BodyKind::kMultipart, request, call);
  ASSERT_FALSE(wrong) << *wrong;
  EXPECT_EQ(call.payload, "{\"scale\":2}");
  ASSERT_EQ(call.attachments.size(), 2u);
  EXPECT_EQ(call.attachments[0].name, "a\"b\\c");
  EXPECT_EQ(call.attachments[0].data.view(), "line\r\n\r\n--b\r\n-b b");
  EXPECT_EQ(call.attachments[0].filename, "x.png");
  EXPECT_EQ(call.attachments[0].content_type, "");
  EXPECT_EQ(call.attachments[1].name, "array");
  EXPECT_EQ(call.attachments[1].dtype, "float32");
  EXPECT_EQ(call.attachments[1].shape, (std::vector<std::uint64_t>{2, 3}));
  EXPECT_TRUE(call.attachments[1].data.empty());
  EXPECT_EQ(call.attachments[1].content_type, "") << "an array is no text";
}

TEST(CallBody, WithoutArgumentsThereAreNone) {
  Request request = upload_with(kForm, form("--b b\nContent-Disposition: form-data; name=x\n\ny\n"
                                            "--b b--"));
  Call call;
  EXPECT_FALSE(read_call_body(BodyKind::kMultipart, request, call));
  EXPECT_EQ(call.payload, "{}");
  ASSERT_EQ(call.attachments.size(), 1u);
  EXPECT_EQ(call.attachments[0].data.view(), "y");
}

// Goal: what a client says of a file arrives; what says nothing of itself is text (RFC 7578).
TEST(CallBody, KeepsWhatIsSaidOfAFile) {
  const auto part = [](const std::string& header) {
    Request request = upload_with(
        kForm, form("--b b\nContent-Disposition: form-data; name=x" + header + "\n\ny\n--b b--"));
    Call call;
    const auto wrong = read_call_body(BodyKind::kMultipart, request, call);
    EXPECT_FALSE(wrong) << *wrong;
    const Attachment& one = call.attachments.at(0);
    return one.filename + "|" + one.content_type;
  };
  EXPECT_EQ(part(""), "|text/plain");
  EXPECT_EQ(part("\nContent-Type: text/csv; charset=latin-1"), "|text/csv; charset=latin-1");
  EXPECT_EQ(part("\nContent-Type: application/octet-stream"), "|application/octet-stream");
  EXPECT_EQ(part("; filename=a.png\nContent-Type: image/png"), "a.png|image/png");
  EXPECT_EQ(part("; filename=\"a b%22c\\\\d.txt\""), "a b\"c\\d.txt|");
  EXPECT_EQ(part("; filename=\"\""), "|") << "a browser's file that nobody has chosen";
  EXPECT_EQ(part("; filename=\"na\xc3\xafve\""), "na\xc3\xafve|");
  EXPECT_EQ(part("; filename=\"ascii\"; filename*=UTF-8''na%C3%AFve%20x"), "na\xc3\xafve x|");
}

// Goal: whatever is malformed is refused in a sentence that says what.
TEST(CallBody, SaysWhatIsWrongWithAForm) {
  const auto error = [](std::string body, std::string type = kForm) {
    Request request = upload_with(std::move(type), std::move(body));
    Call call;
    return read_call_body(BodyKind::kMultipart, request, call).value_or("fine");
  };
  const std::string part = form("--b b\nContent-Disposition: form-data; name=x\n\ny\n");
  EXPECT_EQ(error(part + "--b b--"), "fine");
  EXPECT_THAT(error(part + "--b b"), HasSubstr("does not end its line"));
  EXPECT_THAT(error(part + "--b bx\r\n"), HasSubstr("does not end its line"));
  EXPECT_THAT(error(part), HasSubstr("ends within a part"));
  EXPECT_THAT(error(part.substr(0, part.size() - 1)), HasSubstr("ends within a part"));
  EXPECT_THAT(error(""), HasSubstr("no part"));
  EXPECT_THAT(error("--b b--", "multipart/form-data"), HasSubstr("boundary"));
  EXPECT_THAT(error("--b b--", "multipart/form-data; boundary=" + std::string(71, 'x')),
              HasSubstr("boundary"));
  EXPECT_THAT(error(form("--b b\n\ny\n--b b--")), HasSubstr("no name"));
  EXPECT_THAT(error(form("--b b\nno field\n\ny\n--b b--")), HasSubstr("no field"));
  EXPECT_THAT(error(form("--b b\nContent-Disposition: form-data\n\ny\n--b b--")),
              HasSubstr("no name"));
  EXPECT_THAT(error(form("--b b\nContent-Disposition: form-data; name=\"x\n\ny\n--b b--")),
              HasSubstr("no name"));
  EXPECT_THAT(error(form("--b b\nContent-Disposition: form-data; name=x\n"
                         "Content-Transfer-Encoding: base64\n\ny\n--b b--")),
              HasSubstr("Content-Transfer-Encoding"));
  EXPECT_THAT(error(form("--b b\nContent-Disposition: form-data; name=x\nKeelback-Shape: 2,\n\ny\n"
                         "--b b--")),
              HasSubstr("Keelback-Shape"));
  EXPECT_THAT(error(form("--b b\nContent-Disposition: form-data; name=\"\xff\"\n\ny\n--b b--")),
              HasSubstr("UTF-8"));
  EXPECT_THAT(error(form("--b b\nContent-Disposition: form-data; name=x; filename=\"\xff\"\n\ny\n"
                         "--b b--")),
              HasSubstr("file name"));
  for (const char* bad : {"latin-1''x", "UTF-8''%F", "UTF-8''%FF", "x"}) {
    EXPECT_THAT(error(form("--b b\nContent-Disposition: form-data; name=x; filename*=" +
                           std::string(bad) + "\n\ny\n--b b--")),
                ::testing::AnyOf(HasSubstr("filename*"), HasSubstr("file name")));
  }
  std::string many;
  for (int i = 0; i < 66; ++i) many += part;
  EXPECT_THAT(error(many + "--b b--"), HasSubstr("more than 65 parts"));
  const std::string arguments =
      form("--b b\nContent-Disposition: form-data; name=arguments\n\n{}\n");
  EXPECT_THAT(error(arguments + arguments + "--b b--"), HasSubstr("two parts"));
}

TEST(CallBody, TakesOctetsAsOneAttachment) {
  Request request = upload_with("Application/Octet-Stream", std::string("\0\r\n\xff", 4));
  ASSERT_EQ(body_kind(request), BodyKind::kOctets);
  add(request, Header::kArguments, "[2]");
  add(request, Header::kShape, "4");
  add(request, Header::kDtype, "uint8");
  Call call;
  EXPECT_FALSE(read_call_body(BodyKind::kOctets, request, call));
  ASSERT_EQ(call.attachments.size(), 1u);
  EXPECT_EQ(call.attachments[0].name, "data");
  EXPECT_EQ(call.attachments[0].data.view(), std::string_view("\0\r\n\xff", 4));
  EXPECT_EQ(call.attachments[0].dtype, "uint8");
  EXPECT_EQ(call.payload, "[2]");
}

// Goal: an array without a shape is one row; a shape that is there and empty is that of a single
// element. Both come back with the reply, so that it can be sent again as it is.
TEST(CallBody, TellsAnArrayWithoutAShapeFromOneOfASingleElement) {
  const auto shape_of = [](std::optional<std::string> shape, std::size_t bytes) {
    Request request = upload_with("application/octet-stream", std::string(bytes, 'x'));
    add(request, Header::kDtype, ">i2");
    if (shape) add(request, Header::kShape, *shape);
    Call call;
    EXPECT_FALSE(read_call_body(BodyKind::kOctets, request, call));
    return call.attachments.at(0).shape;
  };
  EXPECT_EQ(shape_of(std::nullopt, 6), (std::vector<std::uint64_t>{3}));
  EXPECT_EQ(shape_of(std::nullopt, 0), (std::vector<std::uint64_t>{0}));
  EXPECT_EQ(shape_of("", 2), (std::vector<std::uint64_t>{}));
  EXPECT_EQ(shape_of("0,3", 0), (std::vector<std::uint64_t>{0, 3}));
  const AttachedReply reply =
      write_attached(returned({{"x", Buffer("ab"), ">i2", {}}}), kOctets, "b");
  EXPECT_EQ(reply.headers, "Keelback-Attachment: x\r\nKeelback-Dtype: >i2\r\nKeelback-Shape: \r\n");
}

TEST(CallBody, KnowsItsTypesAndWhatIsAstrayWithThem) {
  EXPECT_EQ(body_kind(Request{}), BodyKind::kJsonOnly) << "no body, no type";
  EXPECT_EQ(body_kind(upload_with("application/json; charset=utf-8", "")), BodyKind::kJsonOnly);
  EXPECT_FALSE(body_kind(upload_with("text/plain", "x")));
  EXPECT_FALSE(body_kind(upload_with("multipart/mixed", "x")));
  Request request = upload_with("application/json", "{}");
  EXPECT_FALSE(stray_header(BodyKind::kJsonOnly, request));
  add(request, Header::kAttachment, "x");
  EXPECT_EQ(stray_header(BodyKind::kJsonOnly, request), Header::kAttachment);
  EXPECT_FALSE(stray_header(BodyKind::kMultipart, request));
  add(request, Header::kArguments, "{}");
  EXPECT_EQ(stray_header(BodyKind::kMultipart, request), Header::kArguments);
  EXPECT_FALSE(stray_header(BodyKind::kOctets, request));
}

// Goal: what is written reads back, whatever the names and the bytes are.
TEST(CallBody, WritesAFormThatReadsBack) {
  const std::string name = "a\"\r\n%41\\\\b\\";
  AttachedReply reply =
      write_attached(returned({{name, Buffer("\r\n--bound\r\n"), "int16", {2, 3}},
                               {"b", Buffer(""), "", {}, "image/png", "\"f\"\r\n%.png"}}),
                     kOctets, "bound-1");
  Request request = upload_with(reply.content_type, reply.body);
  const auto parts =
      httptext::parse_multipart(request.body, httptext::boundary_of(reply.content_type), 9);
  ASSERT_TRUE(parts) << parts.error();
  ASSERT_EQ(parts->size(), 3u);
  EXPECT_EQ((*parts)[0].name, "result");
  EXPECT_EQ((*parts)[0].data, R"({"$attachment":"a"})");
  EXPECT_EQ((*parts)[1].name, name);
  EXPECT_EQ((*parts)[1].data, "\r\n--bound\r\n");
  EXPECT_EQ((*parts)[1].dtype, "int16");
  EXPECT_EQ((*parts)[1].shape, "2,3");
  EXPECT_EQ((*parts)[1].filename, name) << "a part of a form that is a file has a file's name";
  EXPECT_EQ((*parts)[1].content_type, "application/octet-stream");
  EXPECT_EQ((*parts)[2].data, "");
  EXPECT_EQ((*parts)[2].content_type, "image/png");
  EXPECT_EQ((*parts)[2].filename, "\"f\"\r\n%.png");
}

// Goal: an attachment that says what it is goes out as that, to who takes that; and never without
// asking if anything beside it would be lost.
TEST(CallBody, SendsAnAttachmentAsWhatItIs) {
  const auto sent = [](const char* accept, const char* payload = R"({"$attachment":"0"})",
                       std::string type = "image/png") {
    Outcome outcome = returned({{"0", Buffer("png"), "", {}, std::move(type), ""}});
    outcome.payload = payload;
    const std::string as = write_attached(std::move(outcome), accept, "b").content_type;
    return as.substr(0, as.find(';'));
  };
  const char* more = R"({"image":{"$attachment":"0"},"score":1})";
  EXPECT_EQ(sent("image/png"), "image/png");
  EXPECT_EQ(sent("image/*, application/json;q=.5"), "image/png");
  EXPECT_EQ(sent("image/png", more), "image/png") << "asked for by name";
  EXPECT_EQ(sent(""), "image/png");
  EXPECT_EQ(sent("*/*"), "image/png");
  EXPECT_EQ(sent("application/json, */*;q=0.1"), "image/png");
  EXPECT_EQ(sent("", more), "multipart/form-data");
  EXPECT_EQ(sent("*/*", more), "multipart/form-data");
  EXPECT_EQ(sent("application/json, multipart/form-data"), "multipart/form-data");
  EXPECT_EQ(sent("multipart/form-data, */*"), "multipart/form-data") << "named, so preferred";
  EXPECT_EQ(sent("image/png;q=0, */*"), "multipart/form-data");
  EXPECT_EQ(sent("application/json"), "multipart/form-data");
  EXPECT_EQ(sent("application/octet-stream"), "application/octet-stream");
  EXPECT_EQ(sent("application/octet-stream, image/*"), "image/png");
  EXPECT_EQ(sent("", R"({"$attachment":"0"})", ""), "multipart/form-data") << "as ever";
  EXPECT_EQ(sent("", R"({"$attachment":"0"})", "no type"), "multipart/form-data");
  EXPECT_EQ(sent("", R"({"$attachment":"0"})", "a/b\r\nX: y"), "multipart/form-data");
}

TEST(CallBody, SaysHowTheFileIsCalled) {
  const auto header = [](std::string filename) {
    return write_attached(returned({{"a", Buffer("x"), "", {}, "a/b", std::move(filename)}}), "a/b",
                          "b")
        .headers;
  };
  EXPECT_EQ(header(""), "Keelback-Attachment: a\r\n");
  EXPECT_EQ(header("cat.png"),
            "Keelback-Attachment: a\r\nContent-Disposition: attachment; "
            "filename=\"cat.png\"\r\n");
  EXPECT_EQ(header("n\xc3\xa4\"\r\nX: y"),
            "Keelback-Attachment: a\r\nContent-Disposition: attachment; filename=\"n___?"
            "?X: y\"; filename*=UTF-8''n%C3%A4%22%0D%0AX%3A%20y\r\n");
}

TEST(CallBody, WritesASingleAttachmentAsOctetsOnRequest) {
  const AttachedReply reply =
      write_attached(returned({{"n\r\nX: y", Buffer("bytes"), "", {}}}), kOctets, "b");
  EXPECT_EQ(reply.content_type, "application/octet-stream");
  EXPECT_EQ(reply.body, "bytes");
  EXPECT_EQ(reply.headers, "Keelback-Attachment: n??X: y\r\n") << "a header stays one line";
}

}  // namespace
}  // namespace keelback::server
