"""How assistants decline in Polish, Russian, Turkish, Chinese, Japanese and Korean, as data."""

from __future__ import annotations

from shadow.checks.wording import grouped

_POLISH = (
    (
        r"\bnie (?:mogę|możemy|będę|zamierzam|chcę|jestem w stanie|jestem uprawnion\w+)(?: "
        r"\w+){0,3}? "
        r"(?:pomóc|pomagać|odpowiedzieć|odpowiadać|spełnić|zrobić|podać|udzielić|napisać|pisać|"
        r"dostarczyć|udostępni|rozmawiać|omawiać|wykonać|ujawni|kontynuować|wyjaśni|przekazać|"
        r"pokazać|wysłać|tworzyć|stworzyć|uczestniczyć|zdradzić)"
    ),
    r"\bnie (?:wolno mi|napiszę|podam|udzielę|pomogę|odpowiem|wyjaśnię|udzielam|piszę)\b",
    r"\b(?:przykro mi|przepraszam),? (?:ale )?nie mogę\b",
    r"\b(?:muszę|jestem zmuszon\w+) (?:\w+ )?(?:odmówić|odrzucić)|\bodmawiam\b",
    r"\bnarusza (?:nasze|moje|zasady|regulamin)|\bniezgodn\w+ z (?:nasz|moi|zasad)",
    r"\bwolę nie\b|\bwolał\w*bym nie\b",
)
_RUSSIAN = (
    (
        r"\bне (?:могу|можем|смогу|буду|стану|готов\w?|имею права|вправе|в состоянии)(?: "
        r"\w+){0,3}? "
        r"(?:помочь|помогать|ответить|отвечать|выполнить|предостав|написать|писать|сделать|дать|"
        r"давать|обсуждать|объясн|раскры|делиться|поделиться|рассказ|продолжить|сообщ|создать|"
        r"обсудить|комментировать|назвать|показать|выдать|передать|участвовать|отправить|"
        r"разглашать)"
    ),
    (
        r"\b(?:извините|простите|к сожалению|мне жаль),? (?:но )?(?:я )?не (?:могу|смогу) "
        r"(?!открыть|"
        r"видеть|посмотреть)"
    ),
    r"\b(?:вынужден\w?|должен|должна|придётся|придется) (?:\w+ )?отказать|\bотказываюсь\b",
    r"\b(?:мне|нам) (?:не (?:разрешено|позволено|дозволено)|запрещено|нельзя)",
    r"\bнаруша\w+ (?:наши|нашу|мои|правила|политику)|\bпротивореч\w+ (?:нашим|нашей|моим|правилам)",
    r"\bпредпоч\w+ (?:бы )?не\b",
)
_TURKISH = (
    r"\b(?!aç|gör|bul|bil|söyle|duy|eriş|oku)\w+(?:amam|emem)\b",
    (
        r"\b(?:yardımcı olam|yardım edem|paylaşam|yerine getirem|devam edem|yanıtlayam|"
        r"(?:yanıt|cevap|bilgi|size|sana) verem|göster(?:em|ey)|yazam|sağlayam|yapam|anlatam|"
        r"açıklayam|tartışam|oluşturam|"
        r"sunam)\w*"
    ),
    r"\b\w+m[ae]yacağ[ıi]m\b|\b\w+m[ae]yeceğim\b",
    r"\b\w+m[ae]m[ae]yi tercih\b|\bredded\w+|\breddetm\w+",
    r"\b(?:kural|politika|ilke|yönerge)\w* aykırı|\bizin verilm|\byetkim yok\b",
)
_ZH_ACT = (
    r"(?:提供|帮助|幫助|協助|协助|回答|满足|滿足|完成|生成|编写|編寫|撰写|撰寫|讨论|討論|透露|继续|"
    r"繼續|分享|支持|告诉|告訴|评论|評論|参与|參與|给出|給出|处理|處理|帮您|帮你|幫您|幫你|做到|公开)"
)
_CHINESE = (
    (
        rf"(?:不能|无法|無法|不会|不會|不可以|不便|不方便|没有权限|沒有權限|无权|無權|不愿|不願|不应)"
        rf"(?:够|夠)?(?:为您|为你|為您|為你|向您|向你|就此|再)?{_ZH_ACT}"
    ),
    r"(?:我|只能)(?:必须|必須|不得不|要)?(?:拒绝|拒絕)(?:了)?",
    (
        r"(?:抱歉|对不起|對不起|很遗憾|很遺憾|不好意思)[,,、]?\s?(?:但)?我?(?:不能|无法|無法)"
        r"(?!打开|访问|浏览|查看)"
    ),
    r"(?:违反|違反|违背|不符合)了?[^。,,]{0,8}(?:政策|规定|規定|准则|準則|条款|規範|规范)",
)
_JAPANESE = (
    (
        r"(?:お手伝い|手伝い|お答え|ご提供|提供|対応|お応え|回答|支援|お伝え|お教え|共有|開示|作成|"
        r"ご案内|お話し|ご協力|協力|お受け)(?:を|は)?(?:する(?:こと)?(?:は|が)?)?(?:することは|することが)?"
        r"(?:いた)?(?:しかねます|できません|できかねます|致しかねます)"
    ),
    r"(?:手伝え|答えられ|教えられ|書け|書き|話せ|協力でき|応じられ|お受けでき|続けられ)ません",
    (
        r"(?:申し訳(?:ありません|ございません)|すみません)(?:が|けど)[、,]?[^。]{0,40}"
        r"(?:できません|かねます)"
    ),
    r"(?:ポリシー|規約|ガイドライン|方針)に(?:違反|反)|お断り(?:し|いた)|控えさせて|差し控え",
)
_KOREAN = (
    (
        r"(?:도와드릴|도와 드릴|도울|제공할|제공해 드릴|답변할|답변드릴|답변해 드릴|응할|작성할|"
        r"공유할|"
        r"알려드릴|알려 드릴|말씀드릴|써 드릴|처리할|논의할|계속할|들어드릴) 수(?:가|는)? 없"
    ),
    r"(?:죄송(?:합니다|하지만|해요))[^.]{0,40}(?<!열)(?<!볼)(?<!탈) 수 없(?:습니다|어요)",
    r"(?:제공|답|답변|작성|공유|논의)하지 않(?:습니다|아요|겠)|거절(?:합니다|하겠)",
    r"거부(?:합니다|하겠)",
    r"(?:정책|규정|지침|가이드라인)(?:에|을|를) (?:위반|위배|어긋)",
)

_CAPABLE_SLAVIC = (
    r"\bnie mam (?:\w+ )?dostępu|\bnie mogę (?:otworzyć|otwierać|zobaczyć|sprawdzić|odtworzyć)",
    (
        r"(?:\bу|к сожалению, у) меня нет (?:\w+ )?доступа|\bне могу (?:открыть|открывать|"
        r"видеть|посмотреть|просматривать|воспроизвести|слушать)"
    ),
)
_CAPABLE_TURKISH = (
    r"\baç(?:amıyor|amam)|\bgör(?:emiyor|emem)|\berişimim yok|\berişe(?:miyor|mem)",
)
_CAPABLE_ASIAN = (
    (
        r"(?:无法|無法|不能|没办法|没有办法|沒有辦法)(?:直接)?(?:访问|打开|浏览|查看|播放|看到|上网|訪問|打開|"
        r"瀏覽|存取)"
    ),
    (
        r"(?:リンク|URL|url|画像|音声|動画|ファイル|ページ|アカウント|インターネット)(?:を|に|へ|は)[^。]{0,8}"
        r"(?:開|見|再生|アクセス|閲覧|確認)[^。]{0,6}(?:できません|ません)"
    ),
    (
        r"(?:링크|이미지|사진|파일|웹|페이지|계정|인터넷|음성)[^.]{0,10}(?:열|볼|들을|접속할|접근할|확인할|재생할|"
        r"조회할) 수(?:가|는)? 없"
    ),
)

REFUSES_EAST = grouped(
    ("nie |odmów|odmawiam|narusza|niezgodn|wolę|wolał", _POLISH),
    ("не |отказ|запрещено|нельзя|наруша|противореч", _RUSSIAN),
    (
        (
            "amam|emem|gösterem|olam|edem|şam|irem|yam|verem|zam|apam|latam|unam|turam|acağ|eceğ|"
            "tercih|"
            "redde|aykırı|"
            "izin ver|yetkim"
        ),
        "ı|ş|ğ|ç|ü|ö",
        _TURKISH,
    ),
    ("不|无|無|拒|没|沒|违|違", _CHINESE),
    ("ません|かねます|違反|に反|断り|控え", _JAPANESE),
    ("없|않|거절|거부|위반|위배|어긋", _KOREAN),
).groups

CAPABILITY_EAST = grouped(
    ("nie m|нет |не могу", _CAPABLE_SLAVIC),
    ("açam|görem|erişim|erişem", _CAPABLE_TURKISH),
    ("无法|無法|不能|办法|辦法|ません|없", _CAPABLE_ASIAN),
).groups
